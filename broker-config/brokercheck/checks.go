package brokercheck

import "time"

// checks are all, in their order. NATS waits with a redelivery for an ack_wait, which
// is 20 s in the configuration that is shipped.
func checks() []check {
	usual, long, longest := 4*time.Second, 20*time.Second, 25*time.Second
	return []check{
		{"qos1", "acknowledged, and delivered with QoS 1",
			"use a broker with MQTT 3.1.1 and QoS 1", usual, false, qos1},
		{"retain", "told to who subscribes later",
			"switch retained messages on (mosquitto: retain_available true)", usual, false, retain},
		{"retain_clear", "gone after an empty one",
			"use a broker that clears a retained message as MQTT 3.1.1 says", usual, false, retainClear},
		{"will", "published and retained after a cut, not after a DISCONNECT",
			"use a broker that keeps retained wills, or nobody learns that a device is lost", usual, false, will},
		{"session", "1000 of 1000 messages kept for one that is away",
			"keep more for a session (mosquitto: max_queued_messages 10000)", long, false, session},
		{"order", "in the order of publishing",
			"results may come out of order: go by their seq", long, false, order},
		{"inflight", "100 unacknowledged at once",
			"allow more at once (mosquitto: max_inflight_messages 1024; NATS: max_ack_pending)",
			usual, false, inflight},
		{"redelivery", "delivered again after a cut, marked as a duplicate",
			"use a broker that does so, or jobs are lost; without the mark a camera's frame is answered twice",
			longest, false, redelivery},
		{"takeover", "the second client of an id gets its session, the first is cut off",
			"use a broker that ends the older connection, or a device that lost its link stays away",
			usual, false, takeover},
		{"packet", "16 MiB pass",
			"allow larger packets (mosquitto: max_packet_size 16777216; NATS: max_payload)", long, false, packet},
		{"blob", "64 KiB pass with QoS 0, four at a time",
			"let more wait for a client (mosquitto: max_queued_bytes), or families come by HTTP alone", usual, false, blob},
		{"wildcard", "+ is one level, # is the rest with the level above",
			"use a broker that matches filters as MQTT 3.1.1 says", usual, false, wildcard},
		{"dot", "a device a.b is one level",
			"give devices names without a dot", usual, false, dot},
		{"denied_subscribe", "a device is not sent the jobs of another",
			"use the access list: broker-config", usual, true, deniedSubscribe},
		{"denied_publish", "a device cannot send another a job",
			"use the access list: broker-config", usual, true, deniedPublish},
		{"latency", "QoS 1 within 35 ms where the network is quick",
			"set_tcp_nodelay true (mosquitto), or a quicker disk for what the broker stores", usual, false, latency},
	}
}
