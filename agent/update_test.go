package agent_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/monitor"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/stock"
)

// sibling is a family of the stock supernet: three members whose statistics and canaries
// differ from the stock ones by a hair, so that they are other blobs.
func sibling(tb testing.TB, name string) (*family.Family, family.MemoryBlobs) {
	tb.Helper()
	return relative(tb, name, 1)
}

// relative is a sibling whose blobs differ by so many hairs.
func relative(tb testing.TB, name string, hairs int) (*family.Family, family.MemoryBlobs) {
	tb.Helper()
	carried, err := stock.Family()
	if err != nil {
		tb.Fatal(err)
	}
	f, blobs := carried.Family, family.MemoryBlobs{}
	f.Name, f.Members = name, append([]family.Member(nil), f.Members[:3]...)
	other := func(d family.Digest) family.Digest {
		b, err := carried.Blob(d)
		if err != nil {
			tb.Fatal(err)
		}
		numbers, err := family.Floats(b)
		if err != nil {
			tb.Fatal(err)
		}
		last := &numbers[len(numbers)-1]
		for range hairs {
			*last = math.Nextafter32(*last, 2**last)
		}
		return blobs.Add(family.FloatBytes(numbers))
	}
	for i := range f.Members {
		m := &f.Members[i]
		m.Stats, m.Canary = other(m.Stats), other(m.Canary)
	}
	return &f, blobs
}

// controller serves blobs over a broker, and has nothing else to say.
type controller struct {
	*mqtt.Link
	server *blob.Server
}

func (controller) Connected(uint64, bool) {}
func (controller) Denied([]string)        {}
func (controller) Lost(error)             {}

func (c *controller) Receive(m mqtt.Message, ack func()) {
	ack()
	if t, err := wire.ParseTopic(m.Topic); err == nil && t.Kind == wire.KindFetch {
		c.server.Receive(t, m.Payload)
	}
}

// carry has a controller serve a family and its blobs.
func carry(tb testing.TB, broker string, f *family.Family, blobs family.MemoryBlobs) *blob.Server {
	tb.Helper()
	all := maps.Clone(blobs)
	all[f.Digest()] = f.Compact()
	cfg := mqtt.Default()
	cfg.Broker, cfg.CleanSession, cfg.ClientID = broker, true, "controller-"+fleet.NewID()
	cfg.BackoffMin, cfg.BackoffMax = 10*time.Millisecond, 50*time.Millisecond
	cfg.Subscriptions = []mqtt.Subscription{{Filter: wire.FleetFilter("demo", wire.KindFetch)}}
	c := &controller{}
	var err error
	if c.Link, err = mqtt.New(cfg, c, discard()); err != nil {
		tb.Fatal(err)
	}
	may := func(_ string, d family.Digest) bool { _, ok := all[d]; return ok }
	c.server = blob.NewServer(blob.ServerConfig{Blobs: all, May: may}, c.Link, discard())
	run(tb, c.Link.Run)
	run(tb, c.server.Run)
	return c.server
}

// familyCommand is one for a family, with more of the command's fields as JSON.
func familyCommand(f *family.Family, more string) string {
	return fmt.Sprintf(`{"family":{"name":%q,"digest":"sha256:%s"},"ttl_ms":600000%s}`, f.Name, f.Digest(), more)
}

// stream sends jobs one after the other until it is stopped, and then says how many.
func stream(o *operator, cfg config.Config) (stop func() (n int)) {
	ending, ended := make(chan struct{}), make(chan int)
	payload := job(o.tb, patient, pngFrame(o.tb, 0))
	go func() {
		for n := 0; ; n++ {
			select {
			case <-ending:
				ended <- n
				return
			case <-time.After(5 * time.Millisecond):
				o.publish(self(cfg).Job(fmt.Sprint("job-", n)), payload)
			}
		}
	}()
	return func() int { close(ending); return <-ended }
}

// inUse waits until caps name a family, and returns them.
func (o *operator) inUse(cfg config.Config, f *family.Family) (caps wire.Caps) {
	o.tb.Helper()
	o.until(func() bool {
		var ok bool
		caps, ok = latest[wire.Caps](o, self(cfg).Caps())
		return ok && caps.Family != nil && caps.Family.Name == f.Name && caps.Update == nil
	}, "family %s is in use", f.Name)
	return caps
}

func TestAFamilyComesOverTheAirWithoutAJobLost(t *testing.T) {
	t.Parallel()
	broker := brokertest.StartMosquitto(t).Addr
	next, blobs := sibling(t, "yard")
	server, o, cfg := carry(t, broker, next, blobs), operate(t, broker), newRealConfig(t, broker)
	d := start(t, cfg, real(cfg))
	d.ready()
	o.presence(cfg, wire.Online, 0)
	stop := stream(o, cfg)
	ack := o.command(cfg, cfg.Device, wire.VerbFamily, "u1",
		familyCommand(next, `,"probation":{"frames":50,"max_missed":0}`))
	if ack.State != wire.CommandSucceeded {
		t.Fatalf("got %+v", ack)
	}
	caps := o.inUse(cfg, next)
	last := caps.LastUpdate
	if last == nil || last.ID != "u1" || last.State != wire.CommandSucceeded || len(caps.Machine) != 16 {
		t.Errorf("caps: got %+v and machine %q, want how it ended", last, caps.Machine)
	}
	n, by := stop(), map[string]int{}
	for i := range n {
		id := fmt.Sprint("job-", i)
		r := o.result(cfg, id, 1)
		by[r.Family]++
		if times := len(o.matching(self(cfg).Result(id))); r.Status != wire.OK || times != 1 {
			t.Errorf("job %s: got %s %s %q, %d times; want one answer", id, r.Status, r.Reason, r.Detail, times)
		}
	}
	if by["cifar10"] == 0 || by[next.Name] < 50 || len(by) != 2 {
		t.Errorf("answered by %v, want both", by)
	}
	missing := len(next.Compact())
	for _, b := range blobs {
		missing += len(b)
	}
	if sent := int(server.Counts().Bytes); sent < missing || float64(sent) > 1.05*float64(missing) {
		t.Errorf("sent %d bytes for the %d of what was missing, want at most 1.05 of them", sent, missing)
	}
	d.stop()
	told := len(o.matching(self(cfg).State()))
	start(t, cfg, real(cfg)).ready()
	o.presence(cfg, wire.Online, told)
	if r := o.ask(cfg, "restarted", `{"deadline_ms":600000}`); r.Status != wire.OK || r.Family != next.Name {
		t.Errorf("after a start: got %+v, want an answer of %s", r, next.Name)
	}
}

func TestAFamilyOverTheAirThatMissesDeadlinesGoesBack(t *testing.T) {
	t.Parallel()
	broker := serve(t)
	next, blobs := sibling(t, "yard")
	carry(t, broker, next, blobs)
	o, cfg := operate(t, broker), newRealConfig(t, broker)
	start(t, cfg, real(cfg)).ready()
	o.presence(cfg, wire.Online, 0)
	o.publish(self(cfg).Cmd(wire.VerbFamily, "u1"),
		[]byte(familyCommand(next, `,"probation":{"frames":500,"max_missed":3}`)))
	o.until(func() bool {
		caps, ok := latest[wire.Caps](o, self(cfg).Caps())
		return ok && caps.Update != nil && caps.Update.Step == wire.UpdateProbation
	}, "the family is on trial")
	burst := job(t, 1, pngFrame(t, 0))
	for _, id := range ids("late", 300) { // most of which wait longer than their deadline
		o.publishAs(mqtt.Message{Topic: self(cfg).Job(id), Payload: burst})
	}
	ack := o.final(self(cfg).Ack(wire.VerbFamily, "u1"), 0)
	if ack.State != wire.CommandFailed || ack.Reason != wire.Infeasible || !ack.RolledBack {
		t.Fatalf("got %+v, want that it is rolled back", ack)
	}
	told := false
	for _, m := range o.matching(self(cfg).Ack(wire.VerbFamily, "u1")) {
		a := decoded[wire.Ack](t, m)
		told = told || a.Progress != nil
	}
	if !told {
		t.Error("it did not tell how far it was")
	}
	if r := o.ask(cfg, "back", `{"deadline_ms":600000}`); r.Status != wire.OK || r.Family != "cifar10" {
		t.Errorf("got %+v, want an answer of the family before", r)
	}
	again := o.command(cfg, cfg.Device, wire.VerbFamily, "u2", familyCommand(next, ""))
	if again.State != wire.CommandRejected || again.Reason != wire.Precondition {
		t.Errorf("again: got %+v, want rejected: precondition", again)
	}
}

func TestAProcessThatIsKilledWhileAFamilyIsActivatedGoesOn(t *testing.T) {
	t.Parallel()
	broker := brokertest.StartMosquitto(t).Addr
	next, blobs := sibling(t, "yard")
	carry(t, broker, next, blobs)
	o, cfg := operate(t, broker), newRealConfig(t, broker)
	p := launch(t, cfg)
	o.presence(cfg, wire.Online, 0)
	o.publish(self(cfg).Cmd(wire.VerbFamily, "u1"),
		[]byte(familyCommand(next, `,"probation":{"frames":5,"max_missed":0}`)))
	reaches := func(step wire.UpdatePhase) {
		t.Helper()
		o.until(func() bool {
			caps, ok := latest[wire.Caps](o, self(cfg).Caps())
			return ok && caps.Update != nil && caps.Update.Step == step
		}, "the update is %s", step)
	}
	reaches(wire.UpdateActivating)
	p.kill()
	p = launch(t, cfg)
	reaches(wire.UpdateProbation)
	p.stop() // in order, which proves nothing against it
	launch(t, cfg)
	for _, id := range ids("job", 5) {
		o.publish(self(cfg).Job(id), job(t, patient, pngFrame(t, 0)))
		if r := o.result(cfg, id, 1); r.Family != next.Name {
			t.Errorf("%s: got %+v, want an answer of %s", id, r, next.Name)
		}
	}
	if ack := o.final(self(cfg).Ack(wire.VerbFamily, "u1"), 0); ack.State != wire.CommandSucceeded {
		t.Errorf("got %+v", ack)
	}
	o.inUse(cfg, next)
}

// light is a device whose family comes from its state, and whose members are simulated.
func light() rig { return rig{inference: simulated(nil), stored: true} }

func TestAFamilyComesFromASourceThatIsAllowedElseFromTheController(t *testing.T) {
	for name, allowed := range map[string]bool{"allowed": true, "not allowed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := serve(t)
			next, blobs := sibling(t, "yard")
			all := maps.Clone(blobs)
			all[next.Digest()] = next.Compact()
			asked := new(atomic.Int64)
			files := blob.NewHandler(all, func(family.Digest) bool { return true })
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				http.StripPrefix("/families", files).ServeHTTP(w, r)
			}))
			defer site.Close()
			o, cfg := operate(t, broker), newConfig(t, broker)
			if allowed {
				cfg.Updates.Sources = []string{site.URL + "/families/"}
			} else {
				carry(t, broker, next, blobs)
			}
			start(t, cfg, light()).ready()
			o.presence(cfg, wire.Online, 0)
			ack := o.command(cfg, cfg.Device, wire.VerbFamily, "u1", familyCommand(next,
				fmt.Sprintf(`,"sources":[%q],"probation":{"frames":0,"max_missed":0}`, site.URL+"/families")))
			if ack.State != wire.CommandSucceeded {
				t.Errorf("got %+v", ack)
			}
			o.inUse(cfg, next)
			if (asked.Load() > 0) != allowed {
				t.Errorf("the source was asked %d times, allowed: %t", asked.Load(), allowed)
			}
		})
	}
}

func TestWhateverIsKilledADeviceEndsWithTheFamilyThatItTells(t *testing.T) {
	t.Parallel()
	broker := brokertest.StartMosquitto(t).Addr
	yard, blobs := sibling(t, "yard")
	court, more := sibling(t, "court")
	maps.Copy(blobs, more)
	blobs[court.Digest()] = court.Compact()
	carry(t, broker, yard, blobs)
	o, cfg := operate(t, broker), newConfig(t, broker)
	p := launch(t, cfg, envSimulated+"=1ms")
	o.presence(cfg, wire.Online, 0)
	seed := fromEnv(t, envSeed, rand.Uint64()>>1)
	t.Logf("seed %d", seed)
	r, before := rand.New(rand.NewPCG(seed, 0)), "cifar10"
	for round := range 6 {
		id, next := fmt.Sprint("u", round), []*family.Family{yard, court}[round%2]
		o.publish(self(cfg).Cmd(wire.VerbFamily, id),
			[]byte(familyCommand(next, `,"retry":true,"probation":{"frames":3,"max_missed":3}`)))
		for range r.IntN(4) {
			<-time.After(time.Duration(r.IntN(400)) * time.Millisecond)
			p.kill()
			p = launch(t, cfg, envSimulated+"=1ms")
		}
		var ack wire.Ack
		for n := 0; ack.State == "" || !ack.State.Final(); n++ {
			o.ask(cfg, fmt.Sprint(id, "-job-", n), `{"deadline_ms":600000}`)
			all := o.matching(self(cfg).Ack(wire.VerbFamily, id))
			if len(all) > 0 {
				ack = decoded[wire.Ack](t, all[len(all)-1])
			}
		}
		want := before
		if ack.State == wire.CommandSucceeded {
			want = next.Name
		}
		t.Logf("%s: %s %s, %q", id, ack.State, ack.Reason, ack.Detail)
		if got := o.ask(cfg, id+"-after", `{"deadline_ms":600000}`); got.Family != want {
			t.Errorf("%s ended %s %s, and %s answers", id, ack.State, ack.Reason, got.Family)
		}
		before = want
	}
}

func TestTheMachineKeepsItsNameWithoutAMachineID(t *testing.T) {
	t.Parallel()
	nameless := rig{alter: func(d *agent.Deps) { d.Machine = monitor.New(t.TempDir()) }}
	o, cfg, d := online(t, serve(t), nameless)
	o.await(self(cfg).Caps(), 1)
	before, _ := latest[wire.Caps](o, self(cfg).Caps())
	d.stop()
	n := len(o.matching(self(cfg).Caps()))
	start(t, cfg, nameless)
	o.await(self(cfg).Caps(), n+1)
	if after, _ := latest[wire.Caps](o, self(cfg).Caps()); len(before.Machine) != 16 || after.Machine != before.Machine ||
		strings.Trim(before.Machine, "0123456789abcdef") != "" {
		t.Errorf("got machine %q and then %q, want one of 16 digits", before.Machine, after.Machine)
	}
}
