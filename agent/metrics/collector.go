package metrics

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// collector turns what a device says of itself into metrics. Labels have values from
// short lists, but for sensors and the member, which the device bounds.
type collector struct{ device Device }

// sensorsMost is how many sensors are told of: far more than a board has.
const sensorsMost = 64

// Describe says nothing: what a device does not have it does not tell of.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the device.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.device.Snapshot()
	to := sink(out)
	to.gauge("limber_build_info", "What runs; the value is 1.", "version", "runtime")(
		1, s.Versions.Agent, s.Versions.Runtime)
	to.jobs(&s)
	to.commands(&s)
	to.stages(&s.Engine.Snapshot)
	to.governor(&s)
	to.outbox(&s)
	to.link(&s)
	to.board(c.device.Vitals())
}

// jobs tells what became of them.
func (to sink) jobs(s *agent.Snapshot) {
	ended := to.counter("limber_jobs_total",
		"Jobs that ended: ok, refused for a reason, or superseded by a newer frame.", "outcome", "reason")
	ended(float64(s.Answered), string(wire.OK), "")
	for why, n := range s.Refused {
		ended(float64(n), string(wire.Refused), string(why))
	}
	ended(float64(s.Superseded), "superseded", "")
	to.counter("limber_deadline_misses_total", "Jobs that were answered with classes, but after their deadline.")(
		float64(s.Engine.Missed))
}

// commands tells of those that were not carried out, whatever they said.
func (to sink) commands(s *agent.Snapshot) {
	refused := to.counter("limber_commands_refused_total",
		"Commands that found no room, or whose id was used before, by whether they got an answer.", "answered")
	refused(float64(s.Commands.Refused-s.Commands.Unanswered), "yes")
	refused(float64(s.Commands.Unanswered), "no")
}

// stages tells how long the jobs took that were answered with classes.
func (to sink) stages(s *pipeline.Snapshot) {
	d := prometheus.NewDesc("limber_stage_seconds",
		"How long jobs that were answered with classes took, by stage; total is from receipt to answer.",
		[]string{"stage"}, nil)
	for name, h := range map[string]*pipeline.Histogram{
		"queue": &s.Queue, "decode": &s.Decode, "infer": &s.Infer, "total": &s.Total,
	} {
		to <- prometheus.MustNewConstHistogram(d, h.Count(), h.Sum().Seconds(), h.Cumulative(), name)
	}
}

// governor tells what it chose, and what it believes of the load.
func (to sink) governor(s *agent.Snapshot) {
	switches := to.counter("limber_switches_total", "Changes of the operating member, by the reason of the decision.",
		"reason")
	for why, n := range s.Engine.Switches {
		switches(float64(n), governor.Reason(why).String())
	}
	if s.Engine.Members == nil {
		return
	}
	to.gauge("limber_member_info", "The operating member; the value is 1.", "member")(
		1, s.Engine.Members[s.Engine.Operating].Name)
	to.gauge("limber_slowdown_ratio",
		"How much longer inferences take than on a free device, as the governor believes.")(s.Engine.Slowdown)
}

// outbox tells what waits, and what was given up.
func (to sink) outbox(s *agent.Snapshot) {
	records := to.gauge("limber_outbox_records", "Messages that wait for the link.", "class")
	bytes := to.gauge("limber_outbox_bytes", "Bytes of the messages that wait for the link.", "class")
	oldest := to.gauge("limber_outbox_oldest_seconds", "How long the oldest message has waited, while the device ran.",
		"class")
	dropped := to.counter("limber_outbox_dropped_total", "Messages that were given up, since the start.", "class",
		"reason")
	for c, d := range s.Waiting {
		class := store.Class(c).String()
		records(float64(d.Records), class)
		bytes(float64(d.Bytes), class)
		oldest(d.Oldest.Seconds(), class)
		for why, n := range s.Lost[c] {
			dropped(float64(n), class, store.Loss(why).String())
		}
	}
}

// link tells how the connection to the broker fares.
func (to sink) link(s *agent.Snapshot) {
	up := 0.0
	if s.Uplink.Online {
		up = 1
	}
	to.gauge("limber_link_up", "Whether the device is connected to its broker.")(up)
	to.gauge("limber_link_inflight", "Messages that the broker has not acknowledged.")(float64(s.Traffic.InFlight))
	to.counter("limber_link_connections_total", "Connections to the broker, since the start.")(
		float64(s.Uplink.ConnSeq))
	if t := s.Traffic.RoundTrip; t > 0 {
		to.gauge("limber_link_round_trip_seconds", "How long the broker takes to acknowledge, the median of the last.")(
			t.Seconds())
	}
}

// board tells of power and heat.
func (to sink) board(v agent.Vitals) {
	if v.Watts != nil {
		to.gauge("limber_power_watts", "Power of the whole board.")(*v.Watts)
	}
	celsius := to.gauge("limber_temperature_celsius", "Temperature, by sensor.", "sensor")
	names := slices.Sorted(maps.Keys(v.TempsC))
	for _, name := range names[:min(len(names), sensorsMost)] {
		celsius(v.TempsC[name], name)
	}
}

// sink takes metrics.
type sink chan<- prometheus.Metric

// gauge begins a metric that is told by calls, one for each set of values of labels.
func (to sink) gauge(name, help string, labels ...string) func(float64, ...string) {
	return to.begin(prometheus.GaugeValue, name, help, labels)
}

// counter is gauge for a figure that only grows.
func (to sink) counter(name, help string, labels ...string) func(float64, ...string) {
	return to.begin(prometheus.CounterValue, name, help, labels)
}

func (to sink) begin(kind prometheus.ValueType, name, help string, labels []string) func(float64, ...string) {
	d := prometheus.NewDesc(name, help, labels, nil)
	return func(v float64, values ...string) {
		for i, text := range values {
			values[i] = strings.ToValidUTF8(text, "?") // the names of sensors are the board's
		}
		to <- prometheus.MustNewConstMetric(d, kind, v, values...)
	}
}
