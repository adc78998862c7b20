package mqtt

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/broker-config/brokertest"
)

const ms = time.Millisecond

func TestTheTimesOfPUBACKsAreThoseOfTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l latency
		if recent, minute := l.medians(); recent != 0 || minute != 0 {
			t.Errorf("got %v and %v of none", recent, minute)
		}
		for range 1000 { // 100 s
			l.add(10 * ms)
			<-time.After(100 * ms)
		}
		for range 8 {
			l.add(50 * ms)
		}
		if recent, minute := l.medians(); recent != 50*ms || minute != 10*ms || len(l.minute) > minuteSamples {
			t.Errorf("got %v of the last, %v of the minute, %d samples", recent, minute, len(l.minute))
		}
		<-time.After(time.Minute)
		if _, minute := l.medians(); minute != 0 || len(l.minute) != 0 {
			t.Errorf("got %v of a minute without any", minute)
		}
	})
}

func TestN20_ASlowBrokerOnAQuickNetworkIsToldOfOnce(t *testing.T) {
	for _, tt := range []struct {
		name       string
		took, trip time.Duration
		want       int
	}{
		{"N20 plateau", 41 * ms, 200 * time.Microsecond, 1},
		{"quick broker", 30 * ms, 200 * time.Microsecond, 0},
		{"slow network", 41 * ms, 30 * ms, 0},
		{"unknown network", 41 * ms, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s slowness
			told := 0
			for range 100 {
				if usual, trip, slow := s.judge(tt.took, func() time.Duration { return tt.trip }); slow {
					told++
					if usual != tt.took || trip != tt.trip {
						t.Errorf("told of %v on %v", usual, trip)
					}
				}
			}
			if told != tt.want {
				t.Errorf("told %d times, want %d", told, tt.want)
			}
		})
	}
}

// TestN20_AMosquittoWithoutNodelayIsFoundOut has a device whose broker sends it
// something beside each acknowledgement, as it does with jobs. The second small
// packet waits for the kernel's acknowledgement of the first, which is held back.
func TestN20_AMosquittoWithoutNodelayIsFoundOut(t *testing.T) {
	t.Parallel()
	for _, nodelay := range []string{"false", "true"} {
		t.Run("N20 set_tcp_nodelay "+nodelay, func(t *testing.T) {
			t.Parallel()
			m := brokertest.StartMosquitto(t, "allow_anonymous true", "set_tcp_nodelay "+nodelay)
			cfg := device(m.Addr)
			slow := make(chan [2]time.Duration, 100)
			cfg.Slow = func(acknowledged, network time.Duration) { slow <- [2]time.Duration{acknowledged, network} }
			l, h, _ := mustRun(t, cfg)
			await(t, h.connected)
			for range 40 {
				mustPublish(t, l, "limber/v1/demo/cam-1/job/1", "x", false)
				await(t, h.received).ack()
				<-time.After(20 * ms)
			}
			switch recent, _ := l.Acknowledged(); {
			case nodelay == "false" && len(slow) != 1:
				t.Errorf("told %d times, PUBACKs take %v; want once", len(slow), recent)
			case nodelay == "true" && len(slow) > 0:
				t.Errorf("told of %v, want nothing", <-slow)
			case nodelay == "false":
				if got := <-slow; got[0] < slowPUBACK || got[1] <= 0 || got[1] > quickNetwork {
					t.Errorf("told of %v on a network of %v", got[0], got[1])
				}
			}
		})
	}
}
