package controller_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/store"
)

// filled is a store whose disk may be full.
type filled struct {
	*store.Documents

	mu   sync.Mutex
	full bool
}

func (f *filled) fill(full bool) {
	f.mu.Lock()
	f.full = full
	f.mu.Unlock()
}

func (f *filled) Commit(changes map[string][]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return fmt.Errorf("write controller.db: %w", syscall.ENOSPC)
	}
	return f.Documents.Commit(changes)
}

func TestAControllerWhoseDiskIsFullSaysSoRefusesCommandsAndGoesOnWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	addr, dir := desk(t), t.TempDir()
	g := plants(t, addr, 2)
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	disk := &filled{Documents: documents}
	serveFrom(t, controller.Config{Broker: link(addr), Dir: dir}, disk)
	r := remote(t, addr)
	disk.fill(true)
	asked := make(chan error, 1)
	go func() { // it was decided before the disk was known to be full
		_, err := r.Do(t.Context(), start("first", spec(nil)), patience, nil)
		asked <- err
	}()
	until(t, "the state says what is wrong", func() bool {
		return strings.Contains(r.Detail(), syscall.ENOSPC.Error()) && strings.Contains(r.Detail(), "make room")
	})
	for range 3 {
		_, err = r.Do(t.Context(), start("second", spec(nil)), patience, nil)
		if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Reason != wire.NoSpace {
			t.Errorf("got %v, want a refusal for want of room", err)
		}
	}
	if _, known := r.Rollout("first"); known || len(g.effects("d-0"))+len(g.effects("d-1")) > 0 {
		t.Error("somebody was told of what is not on the disk")
	}
	disk.fill(false)
	if err := <-asked; err != nil {
		t.Errorf("got %v, want the command obeyed once there was room", err)
	}
	become(t, r, "first", wire.RolloutDone)
	until(t, "the state says that all is well", func() bool { return r.Detail() == "" })
	g.once()
}

func TestAControllerThatIsStoppedWhileItLooksForAnotherEndsWithoutAnError(t *testing.T) {
	t.Parallel()
	if err := serve(t, desk(t), t.TempDir()).stop(); err != nil {
		t.Errorf("got %v, want no error: it was asked to stop", err)
	}
}

func TestADeviceThatIsOffIsNotSentItsCommandOnEachConnectionOfTheController(t *testing.T) {
	t.Parallel()
	addr, dir := desk(t), t.TempDir()
	g := plants(t, addr, 2)
	g.deafen("d-1", true)
	first := serve(t, addr, dir)
	r := remote(t, addr)
	do(t, r, start("r", spec(func(s *wire.RolloutSpec) { s.Phases = []string{"100%"} })))
	until(t, "d-0 obeys", func() bool { return len(g.effects("d-0")) == 1 })
	g.publish(at("d-1").State(), true, wire.State{State: wire.Lost, BootID: "b-d-1", ConnSeq: 1})
	offline := func() bool {
		doc, _ := r.Rollout("r")
		return len(doc.Phases) > 0 && doc.Phases[0].Counts.Offline == 1
	}
	until(t, "d-1 is seen to be gone", offline)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	box := listen(t, addr, at("d-1").Filter(wire.KindCmd))
	serve(t, addr, dir)
	until(t, "the controller is back", func() bool { return r.Find(t.Context()) == nil })
	do(t, r, wire.RolloutCommand{Action: wire.RolloutPause, Rollout: "r"}) // behind what it sent when it came
	box.publish(at("d-1").Cmd(wire.VerbMode, mark), wire.Command{})
	if got := box.next().Topic; got != at("d-1").Cmd(wire.VerbMode, mark) {
		t.Errorf("got %s, want no command for a device that is off: the broker keeps each for it", got)
	}
	g.deafen("d-1", false)
	g.publish(at("d-1").State(), true, wire.State{State: wire.Online, BootID: "b-d-1", ConnSeq: 2, TS: wire.At(time.Now())})
	until(t, "d-1 has its command", func() bool { return len(g.effects("d-1")) == 1 })
	g.once()
}

func TestThePartsOfALargeRolloutAreThereBeforeWhatTellsOfThem(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	plants(t, addr, 700)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	box := listen(t, addr, at(wire.Controller).Filter(wire.KindRollout))
	do(t, r, start("r", spec(func(s *wire.RolloutSpec) { s.Phases = []string{"100%"} })))
	devices := map[string]int{}
	for {
		m := box.next()
		var doc wire.Rollout
		if err := wire.Decode(m.Payload, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.State == "" {
			devices[m.Topic] = len(doc.Devices)
			continue
		}
		sum := 0
		for n := range doc.Parts {
			sum += devices[at(wire.Controller).Rollout(fmt.Sprintf("r.%d", n+1))]
		}
		if doc.Parts == 0 || sum != 700 {
			t.Errorf("got %d devices in the %d parts that came before, want 700", sum, doc.Parts)
		}
		return
	}
}

func TestTheStateOfOneFleetIsNotServedToAnother(t *testing.T) {
	t.Parallel()
	addr, dir := desk(t), t.TempDir()
	plants(t, addr, 1)
	first := serve(t, addr, dir)
	do(t, remote(t, addr), start("r", spec(nil)))
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close()
	_, err = controller.New(controller.Config{Fleet: "forest", Broker: link(addr), Dir: dir}, documents, discard())
	if err == nil || !strings.Contains(err.Error(), yard) {
		t.Errorf("got %v, want that the state is of fleet %s: its devices may have the same names", err, yard)
	}
}

func TestABlobThatNoRolloutCameOfGoesWithTheNextRollout(t *testing.T) {
	t.Parallel()
	addr, dir := desk(t), t.TempDir()
	plants(t, addr, 1)
	first := serve(t, addr, dir)
	r := remote(t, addr)
	go r.Serve(t.Context(), folder(t))
	family := &wire.Family{Name: "new", Digest: "sha256:" + string(folder(t).Digest())}
	_, err := r.Do(t.Context(), start("x", spec(func(s *wire.RolloutSpec) {
		s.Mode, s.Family, s.Where = "", family, "device=z"
	})), patience, nil)
	if err == nil {
		t.Fatal("got a rollout that nobody fits")
	}
	do(t, r, start("r", spec(nil)))
	become(t, r, "r", wire.RolloutDone)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close()
	if blobs, err := documents.Keys("blob/"); err != nil || len(blobs) > 0 {
		t.Errorf("got the blobs %v, %v; want none", blobs, err)
	}
}

// TestABrokerThatIsBackWithTheStateOfAControllerBeforeIsNoRival: a broker that keeps
// what it retains on the disk does so now and then, and comes back with that.
func TestABrokerThatIsBackWithTheStateOfAControllerBeforeIsNoRival(t *testing.T) {
	t.Parallel()
	for _, was := range []wire.Presence{wire.Online, wire.Lost, wire.Offline} {
		t.Run(string(was), func(t *testing.T) {
			t.Parallel()
			broker := brokertest.StartMosquitto(t, "allow_anonymous true", "persistence true",
				"persistence_location "+t.TempDir()+"/", "autosave_interval 0")
			g := plants(t, broker.Addr, 1)
			g.retain(at(wire.Controller).State(), wire.State{State: was, BootID: "before", TS: wire.At(time.Now())})
			broker.Stop() // which writes what it retains
			broker.Start()
			s := serve(t, broker.Addr, t.TempDir())
			do(t, remote(t, broker.Addr), start("r", spec(func(s *wire.RolloutSpec) { s.Phases = []string{"100%"} })))
			broker.Kill()
			broker.Start()
			r, err := controller.OpenRemote(link(broker.Addr), yard, discard())
			if err != nil {
				t.Fatal(err)
			}
			run(t, r.Run)
			until(t, "the rollout is told anew", func() bool {
				select {
				case <-s.over:
					t.Fatalf("it ended: %v", s.err)
				default:
				}
				doc, _ := r.Rollout("r")
				return doc.State == wire.RolloutDone
			})
		})
	}
}

func TestAControllerThatDoesNotSeeAllDevicesSaysSo(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 1)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	for i := range fleet.MaxDevices {
		g.publish(at(fmt.Sprint("invented-", i)).Telemetry(), false, wire.Telemetry{})
	}
	until(t, "the state says that not all are seen", func() bool {
		return strings.Contains(r.Detail(), "not all devices are seen")
	})
}

// TestAControllerThatLooksForAnotherResumesNothing: its question is a command.
func TestAControllerThatLooksForAnotherResumesNothing(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	plants(t, addr, 1)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	box := listen(t, addr, at(wire.Controller).Filter(wire.KindCmd))
	if err := serve(t, addr, t.TempDir()).ended(); !errors.Is(err, controller.ErrTaken) {
		t.Errorf("got %v, want ErrTaken", err)
	}
	var asked wire.RolloutCommand
	if err := wire.Decode(box.next().Payload, &asked); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Do(t.Context(), start(asked.Rollout, spec(nil)), patience, nil); err == nil {
		t.Errorf("a rollout of the id %s was started, want none that may be asked for", asked.Rollout)
	}
}

// TestWhatSomebodyWroteInPlaceOfTheControllerIsPutRight: who clears all that a broker
// retains makes a fleet look as if it had no controller.
func TestWhatSomebodyWroteInPlaceOfTheControllerIsPutRight(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 1)
	s := serve(t, addr, t.TempDir())
	do(t, remote(t, addr), start("r", spec(nil)))
	own := at(wire.Controller)
	for _, payload := range []string{"", "{", "{}", `{"state":"lost"}`} {
		for _, topic := range []string{own.State(), own.Rollout("r"), own.Rollout("r.1"), own.Rollout("invented")} {
			m := mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retained: true}
			if err := g.box.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		r := remote(t, addr) // finds it by its state
		become(t, r, "r", wire.RolloutDone)
		late := remote(t, addr)
		become(t, late, "r", wire.RolloutDone)
		if all := late.Rollouts(); len(all) != 1 {
			t.Errorf("got %d rollouts after %q, want one", len(all), payload)
		}
	}
	select {
	case <-s.over:
		t.Errorf("it ended: %v", s.err)
	default:
	}
}
