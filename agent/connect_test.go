package agent_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/store"
)

func TestGreeting(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		cfg := newConfig(t, addr)
		cfg.Groups = []string{"@gate"}
		early := operate(t, addr)
		start(t, cfg, rig{})

		birth := early.settled(cfg)
		if birth.ConnSeq == 0 || birth.BootID == "" {
			t.Errorf("birth: got %+v", birth)
		}
		sync := decoded[wire.Sync](t, early.await(self(cfg).Sync(), 1))
		if sync.BootID != birth.BootID || sync.ConnSeq != birth.ConnSeq || sync.Version != 0 || sync.Seq != 0 {
			t.Errorf("sync: got %+v, want the birth's ids and nothing done", sync)
		}
		seen := early.telemetry(cfg, func(s wire.Telemetry) bool { return s.Member != "" }, "a member is named")
		if seen.Mode != "balanced" || seen.Jobs != 0 {
			t.Errorf("telemetry: got %+v", seen)
		}

		late := operate(t, addr) // gets what is retained
		checkCaps(t, cfg, decoded[wire.Caps](t, late.await(self(cfg).Caps(), 1)))
		reported := decoded[wire.Reported](t, late.await(self(cfg).Reported(), 1))
		if reported.Status != wire.Applied || reported.Version != 0 || reported.Mode != "balanced" || reported.Member == "" {
			t.Errorf("reported: got %+v", reported)
		}
		again := late.presence(cfg, wire.Online, 0)
		if again.TS = birth.TS; again != birth { // it may have been said anew
			t.Errorf("retained state: got %+v, want %+v", again, birth)
		}
		checkRetained(t, cfg, late)
	})
}

// settled waits until a device has said all that it says after a start, and returns
// its state: it can answer, with all members that are worth using.
func (o *operator) settled(cfg config.Config) (state wire.State) {
	o.tb.Helper()
	last := func(topic string) (m mqtt.Message) {
		if all := o.matching(topic); len(all) > 0 {
			m = all[len(all)-1]
		}
		return m
	}
	said := func() bool {
		var caps wire.Caps
		var reported wire.Reported
		state = wire.State{}
		at := self(cfg)
		for topic, v := range map[string]any{at.State(): &state, at.Caps(): &caps, at.Reported(): &reported} {
			if wire.Decode(last(topic).Payload, v) != nil {
				return false
			}
		}
		return state.State == wire.Online && state.Detail == "" && caps.Profile != nil && reported.Member != ""
	}
	o.until(said, "device %s can answer and says so", cfg.Device)
	return state
}

// checkRetained looks at what a newcomer gets first on each topic; what is kept
// there comes before what is news.
func checkRetained(t *testing.T, cfg config.Config, newcomer *operator) {
	t.Helper()
	kept := []string{self(cfg).State(), self(cfg).Caps(), self(cfg).Reported()}
	seen := map[string]bool{}
	for _, m := range newcomer.matching("limber/#") {
		if want := slices.Contains(kept, m.Topic); !seen[m.Topic] && m.Retained != want {
			t.Errorf("%s: retained %v, want %v", m.Topic, m.Retained, want)
		}
		seen[m.Topic] = true
	}
}

func checkCaps(t *testing.T, cfg config.Config, c wire.Caps) {
	t.Helper()
	verbs := []string{"mode", "goal", "power"}
	if c.Versions.Agent != "test" || c.Versions.Runtime == "" || !slices.Equal(c.Verbs, verbs) {
		t.Errorf("caps: got versions %+v, verbs %v", c.Versions, c.Verbs)
	}
	if want := append([]string{"@all"}, cfg.Groups...); !slices.Equal(c.Groups, want) {
		t.Errorf("caps: got groups %v, want %v", c.Groups, want)
	}
	if c.Family == nil || !strings.HasPrefix(c.Family.Digest, "sha256:") || c.Profile == nil || len(c.Members) < 2 {
		t.Fatalf("caps: got %+v, want a family with a profile and some members", c)
	}
	for i, m := range c.Members {
		if m.P50MS == nil || *m.P50MS <= 0 || i > 0 && (*m.P50MS < *c.Members[i-1].P50MS || m.Top1 <= c.Members[i-1].Top1) {
			t.Errorf("caps: member %d is %+v; want them slower and better, one by one", i, m)
		}
	}
}

func TestN1_StartsWithoutABroker(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMosquitto(t)
	m.Kill()
	cfg := newConfig(t, m.Addr)
	d := start(t, cfg, rig{})
	d.log.await(t, "broker not reached", 1)
	m.Start()
	o := operate(t, m.Addr)
	o.presence(cfg, wire.Online, 0)
	o.publish(self(cfg).Job("first"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "first", 1); r.Status != wire.OK {
		t.Errorf("got %+v", r)
	}
}

func TestN21_LastWordTellsHowItEnded(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		for _, tt := range []struct {
			name string
			end  func(*process)
			want wire.Presence
		}{
			{"SIGKILL", (*process).kill, wire.Lost},
			{"SIGTERM", (*process).stop, wire.Offline},
		} {
			cfg := newConfig(t, addr)
			cfg.Device = tt.name
			o := operate(t, addr)
			p := launch(t, cfg, envSimulated+"=yes")
			birth := o.presence(cfg, wire.Online, 0)
			tt.end(p)
			o.presence(cfg, tt.want, 0)
			last := operate(t, addr).presence(cfg, tt.want, 0)
			if last.BootID != birth.BootID || last.ConnSeq != birth.ConnSeq {
				t.Errorf("%s: got %+v after %+v, want the same connection", tt.name, last, birth)
			}
		}
	})
}

func TestN21_StopAtOnceLeavesOffline(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	o := operate(t, addr)
	d := start(t, cfg, rig{})
	d.log.await(t, "broker connected", 1) // the birth may still be on its way
	d.stop()
	if last := o.lastState(cfg); last != wire.Offline {
		t.Errorf("last state: got %q, want offline", last)
	}
}

// lastState is what the broker told last of a device, "" for nothing.
func (o *operator) lastState(cfg config.Config) wire.Presence {
	o.tb.Helper()
	o.fence()
	states := o.matching(self(cfg).State())
	if len(states) == 0 {
		return ""
	}
	return decoded[wire.State](o.tb, states[len(states)-1]).State
}

func TestN21_StopBeforeTheCONNACKLeavesNoLost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before bool // the device was there before, and was lost
		comes  bool // the CONNACK comes after the stop; else never
		want   wire.Presence
	}{
		{"it comes", false, true, wire.Offline},
		{"it comes to a device that was lost", true, true, wire.Offline},
		{"it never comes", false, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			brokers(t, func(t *testing.T, addr string) {
				c, through := lay(t, addr)
				cfg := newConfig(t, through)
				o := operate(t, addr)
				if tt.before {
					d := start(t, cfg, rig{})
					o.presence(cfg, wire.Online, 0)
					c.cut()
					o.presence(cfg, wire.Lost, 0)
					c.await(c.ended, "the end of the first connection")
					d.stop()
					c.mend()
				}
				c.hold()
				d := start(t, cfg, rig{})
				c.await(c.spoken, "CONNACK")
				d.end()
				if tt.comes {
					c.release()
				}
				d.stop()
				c.release()
				c.await(c.ended, "the end of the connection")
				if got := o.lastState(cfg); got != tt.want {
					t.Errorf("last state: got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestN21_StopBetweenTwoAttemptsTakesTheLostBack(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, addr string) {
		c, through := lay(t, addr)
		cfg := newConfig(t, through)
		cfg.Broker.ReconnectMin.Duration, cfg.Broker.ReconnectMax.Duration = time.Minute, time.Minute
		o := operate(t, addr)
		d := start(t, cfg, rig{})
		o.presence(cfg, wire.Online, 0)
		c.cut()
		o.presence(cfg, wire.Lost, 0)
		d.log.await(t, "broker lost", 1)
		c.mend()
		d.stop()
		if got := o.lastState(cfg); got != wire.Offline {
			t.Errorf("last state: got %q, want offline", got)
		}
	})
}

func TestM18_StaysUpWithoutARuntime(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	cfg := newConfig(t, addr)
	o := operate(t, addr)
	p := launch(t, cfg, "ONNXRUNTIME_LIB="+filepath.Join(t.TempDir(), "libonnxruntime.so"))

	o.until(func() bool {
		all := o.matching(self(cfg).State())
		return len(all) > 0 && strings.Contains(decoded[wire.State](t, all[len(all)-1]).Detail, "ONNXRUNTIME_LIB")
	}, "the state names the cause and the remedy")
	fault := decoded[wire.Event](t, o.await(self(cfg).Event(wire.SeverityError), 1))
	if fault.Kind != wire.EventFault {
		t.Errorf("event: got %+v, want a fault", fault)
	}
	o.publish(self(cfg).Job("frame"), pngFrame(t, 0))
	if r := o.result(cfg, "frame", 1); r.Status != wire.Refused || r.Reason != wire.Unsupported || r.Detail == "" {
		t.Errorf("job: got %+v, want refused as unsupported", r)
	}
	ack := o.command(cfg, cfg.Device, "mode", "m1", `{"mode":"balanced","ttl_ms":60000}`)
	if ack.State != wire.CommandRejected || ack.Reason != wire.Unsupported {
		t.Errorf("command: got %+v, want rejected as unsupported", ack)
	}
	o.publish(self(cfg).Desired(), []byte(`{"version":1,"mode":"low-latency"}`))
	o.await(self(cfg).Reported(), 2)
	o.telemetry(cfg, func(s wire.Telemetry) bool { return s.Jobs == 1 && s.Refused == 1 }, "one job was refused")
	p.stop()
	o.presence(cfg, wire.Offline, 0)
}

func TestT7_S7_SecondAgentOnTheSameStateIsRefused(t *testing.T) {
	t.Parallel()
	o, cfg, _ := online(t, serve(t), rig{})

	deps, err := agent.Open(cfg, agent.Options{Inference: simulated(nil)}, discard())
	if !errors.Is(err, store.ErrLocked) {
		t.Errorf("open: got %v, %v; want ErrLocked", deps, err)
	}
	second := launch(t, cfg, envSimulated+"=yes")
	if err := second.wait(); err == nil {
		t.Error("the second agent exited with 0")
	}
	o.publish(self(cfg).Job("after"), job(t, patient, pngFrame(t, 0)))
	if r := o.result(cfg, "after", 1); r.Status != wire.OK {
		t.Errorf("the first agent answered %+v", r)
	}
}

func TestReconnectsGreetAgain(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	c, through := lay(t, addr)
	cfg := newConfig(t, through)
	o := operate(t, addr)
	d := start(t, cfg, rig{})
	first := o.presence(cfg, wire.Online, 0)
	c.cut()
	o.presence(cfg, wire.Lost, 0)
	d.log.await(t, "broker lost", 1)
	told := len(o.matching(self(cfg).State()))
	c.mend()
	second := o.presence(cfg, wire.Online, told)
	if second.BootID != first.BootID || second.ConnSeq <= first.ConnSeq {
		t.Errorf("got %+v after %+v, want the same boot and a later connection", second, first)
	}
	o.until(func() bool {
		all := o.matching(self(cfg).Sync())
		return len(all) > 0 && decoded[wire.Sync](t, all[len(all)-1]).ConnSeq == second.ConnSeq
	}, "sync of the second connection")
}
