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
	always := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	// every third probe meets no lag
	starved := func(lag, none time.Duration) func(int) time.Duration {
		return func(i int) time.Duration {
			if i%3 == 0 {
				return none
			}
			return lag
		}
	}
	for _, tt := range []struct {
		name      string
		took, lag func(probe int) time.Duration
		trip      time.Duration
		want      int
	}{
		{"N20 plateau", always(41 * ms), always(0), 200 * time.Microsecond, 1},
		{"quick broker", always(30 * ms), always(0), 200 * time.Microsecond, 0},
		{"slow network", always(41 * ms), always(0), 30 * ms, 0},
		{"unknown network", always(41 * ms), always(0), 0, 0},
		{"a little late itself", always(41 * ms), always(4 * ms), 200 * time.Microsecond, 1},
		{"starved machine", always(90 * ms), always(20 * ms), 200 * time.Microsecond, 0},
		{"starved machine, now and then in time", starved(90*ms, 9*ms), starved(20*ms, 0), 200 * time.Microsecond, 0},
		{"starved machine, slow broker", starved(90*ms, 41*ms), starved(20*ms, 0), 200 * time.Microsecond, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s slowness
			network := func() time.Duration { return tt.trip }
			told := 0
			for i := range 100 {
				p := probe{took: tt.took(i), watched: s.suspects(network)}
				if p.watched {
					p.lag = tt.lag(i)
				}
				if usual, trip, slow := s.judge(p, network); slow {
					told++
					if usual != 41*ms || trip != tt.trip {
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

// Timers cost a device that has nothing to find out.
func TestNoPUBACKIsWatchedWithoutASuspicionOrAfterTheProof(t *testing.T) {
	var s slowness
	network := func() time.Duration { return 200 * time.Microsecond }
	var watched []int
	for i := range 100 {
		p := probe{took: 41 * ms, watched: s.suspects(network)}
		if p.watched {
			watched = append(watched, i)
		}
		s.judge(p, network)
	}
	if len(watched) != 8 || watched[0] != 8 {
		t.Errorf("watched are %v, want the 8 behind the first 8", watched)
	}
}

func TestAProcessThatComesToRunInTimeHasNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := watchLag()
		<-time.After(100 * ms)
		if got := l.stop(); got != 0 {
			t.Errorf("got %v, want none", got)
		}
	})
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
			// On a loaded machine it takes longer to be sure.
			for i := 0; i < 40 || nodelay == "false" && len(slow) == 0 && i < 1000; i++ {
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
