package controller_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

func TestABrokerThatForgotEverythingIsToldAgainInEachPhase(t *testing.T) {
	t.Parallel()
	for _, killIn := range []int{1, 2, 3} {
		t.Run(map[int]string{1: "in the first phase", 2: "in the second", 3: "at the end"}[killIn], func(t *testing.T) {
			t.Parallel()
			broker := mosquitto(t)
			g := plants(t, broker.Addr, 3)
			serve(t, broker.Addr, t.TempDir())
			r := remote(t, broker.Addr)
			do(t, r, start("r", spec(func(s *wire.RolloutSpec) { s.Approve = true; s.Phases = []string{"1", "2", "100%"} })))
			for phase := 1; phase < killIn; phase++ {
				awaitPhase(t, r, phase)
				do(t, r, wire.RolloutCommand{Action: wire.RolloutApprove, Rollout: "r"})
			}
			broker.Kill()
			broker.Start()
			late := remote(t, broker.Addr) // which knows only what the broker has now
			for phase := killIn; phase < 3; phase++ {
				awaitPhase(t, late, phase)
				do(t, late, wire.RolloutCommand{Action: wire.RolloutApprove, Rollout: "r"})
			}
			become(t, late, "r", wire.RolloutDone)
			g.once()
		})
	}
}

// awaitPhase waits until a phase has passed and the next one waits for approval.
func awaitPhase(tb testing.TB, r *controller.Remote, phase int) {
	tb.Helper()
	until(tb, "a phase waits for approval", func() bool {
		doc, _ := r.Rollout("r")
		return doc.State == wire.RolloutApproval && doc.Phase == phase+1
	})
}

func TestACandidateThatMissesDeadlinesStopsAtTheCanaryAndReturnsByItself(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 4)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	g.traffic("d-1", 0, 0)
	do(t, r, start("r", spec(func(s *wire.RolloutSpec) {
		s.Canary, s.Rollback, s.Observe = []string{"d-1"}, true, 200
		s.Gates = []wire.Gate{{Name: wire.GateMisses, Limit: "0.05"}}
	})))
	until(t, "the canary obeys", func() bool { return len(g.effects("d-1")) == 1 })
	until(t, "it misses deadlines", func() bool {
		g.traffic("d-1", 100, 50)
		doc, _ := r.Rollout("r")
		return doc.State == wire.RolloutFailed
	})
	doc := become(t, r, "r", wire.RolloutFailed)
	for _, d := range doc.Devices {
		want := wire.DeviceCancelled
		if d.Device == "d-1" {
			want = wire.DeviceRolledBack
		} else if len(g.effects(d.Device)) > 0 {
			t.Errorf("%s was commanded, want the canary alone", d.Device)
		}
		if d.State != want {
			t.Errorf("%s: got %s, want %s", d.Device, d.State, want)
		}
	}
	if !strings.Contains(doc.Why, "misses") {
		t.Errorf("got %q, want the gate that failed", doc.Why)
	}
}

func TestARolloutWithTooLittleEvidenceWaits(t *testing.T) {
	t.Parallel()
	addr := desk(t)
	g := plants(t, addr, 2)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	do(t, r, start("r", spec(func(s *wire.RolloutSpec) {
		s.Canary = []string{"d-1"}
		s.Gates = []wire.Gate{{Name: wire.GateMisses, Limit: "0.05"}}
	})))
	until(t, "the canary obeys", func() bool { return len(g.effects("d-1")) == 1 })
	g.traffic("d-1", 0, 0)
	until(t, "some frames are known", func() bool {
		g.traffic("d-1", 1, 0)
		doc, _ := r.Rollout("r")
		return doc.State == wire.RolloutWaiting && len(doc.Phases[0].Gates) > 0 && doc.Phases[0].Gates[0].Verdict == wire.GateWait
	})
	if got := len(g.effects("d-0")); got > 0 {
		t.Errorf("got %d commands of the second phase, want none without evidence", got)
	}
}

func TestARolloutIsStartedByMosquittoPubAndReadByMosquittoSub(t *testing.T) {
	t.Parallel()
	pub, sub := brokertest.Program(t, "mosquitto_pub"), brokertest.Program(t, "mosquitto_sub")
	broker := mosquitto(t)
	plants(t, broker.Addr, 2)
	serve(t, broker.Addr, t.TempDir())
	r := remote(t, broker.Addr) // only waits until all is there
	host, port, _ := strings.Cut(broker.Addr, ":")
	asked := `{"schema":1,"action":"start","rollout":"night","ttl_ms":60000,"spec":{"mode":"power-save","where":"",` +
		`"phases":["1","100%"],"gates":[{"name":"success","limit":"0.9"}],"soak_ms":0}}`
	out, err := exec.Command(pub, "-h", host, "-p", port, "-q", "1", "-t", "limber/v1/yard/@controller/cmd/rollout/one", "-m", asked).
		CombinedOutput()
	if err != nil {
		t.Fatalf("mosquitto_pub: %v, %s", err, out)
	}
	become(t, r, "night", wire.RolloutDone)
	out, err = exec.Command(sub, "-h", host, "-p", port, "-C", "1", "-W", "20", "-t", "limber/v1/yard/@controller/rollout/night").
		CombinedOutput()
	var doc wire.Rollout
	if err == nil {
		err = wire.Decode(bytes.TrimSpace(out), &doc)
	}
	if err != nil || doc.State != wire.RolloutDone || len(doc.Devices) != 2 {
		t.Errorf("mosquitto_sub: got %s, %v; want the rollout, done, with two devices", out, err)
	}
}

// folder is a family in memory, of a foreign model that nobody runs here.
func folder(tb testing.TB) *family.Folder {
	tb.Helper()
	model, canary := bytes.Repeat([]byte("model"), 60_000), []byte("canary")
	manifest := family.Family{Schema: 1, Name: "new", Classes: []string{"a", "b"}, Describe: json.RawMessage(describe), Members: []family.Member{
		{Name: "small", Model: family.DigestOf(model), Canary: family.DigestOf(canary), Top1: 0.5, Top5: 1,
			Input: "x", Output: "y", Arch: family.Arch{R: 32}}}}
	b, err := json.Marshal(manifest)
	if err != nil {
		tb.Fatal(err)
	}
	f, err := family.OpenFolder(fstest.MapFS{
		family.ManifestFile:                      {Data: b},
		family.BlobFile(family.DigestOf(model)):  {Data: model},
		family.BlobFile(family.DigestOf(canary)): {Data: canary},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

const describe = `{"mean":[0,0,0],"std":[1,1,1],"resize":"bilinear","antialias":true,"crop":"none","classes":["a","b"]}`

func TestAFamilyComesToTheControllerAndIsServedToDevicesOfItsRolloutAlone(t *testing.T) {
	t.Parallel()
	addr, dir := desk(t), t.TempDir()
	g := plants(t, addr, 2)
	g.outcome = func(string, wire.Command) wire.Ack { return wire.Ack{} } // they are at it
	documents, err := store.OpenDocuments(dir, store.Options{NoSync: true}, discard())
	if err != nil {
		t.Fatal(err)
	}
	serveFrom(t, controller.Config{Broker: link(addr), Dir: dir, HTTP: "127.0.0.1:0"}, documents)
	r := remote(t, addr)
	f := folder(t)
	ctx := t.Context()
	go r.Serve(ctx, f)
	do(t, r, start("r", spec(func(s *wire.RolloutSpec) {
		s.Mode, s.Canary = "", []string{"d-0"}
		s.Family = &wire.Family{Name: "new", Digest: "sha256:" + string(f.Digest())}
	})))
	until(t, "the canary is commanded", func() bool { return len(g.effects("d-0")) == 1 })
	doc, _ := r.Rollout("r")
	if len(doc.Spec.Sources) != 1 {
		t.Fatalf("got the sources %v, want that of the controller", doc.Spec.Sources)
	}
	for _, d := range append(f.Digests(), f.Digest()) {
		if got, err := get(doc.Spec.Sources[0] + string(d)); err != nil || family.DigestOf(got) != d {
			t.Errorf("blob %s by HTTP: got %d bytes, %v", d.Short(), len(got), err)
		}
		if got := fetch(t, addr, "d-0", d); family.DigestOf(got) != d {
			t.Errorf("blob %s by MQTT: got %d bytes, which are others", d.Short(), len(got))
		}
		if got := fetch(t, addr, "d-1", d); len(got) > 0 {
			t.Errorf("blob %s: got %d bytes for a device whose turn has not come, want none", d.Short(), len(got))
		}
	}
}

func get(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// fetch brings a blob as a device does, part by part.
func fetch(tb testing.TB, addr, device string, d family.Digest) (all []byte) {
	tb.Helper()
	a := listen(tb, addr, at(device).Filter(wire.KindBlob))
	for {
		a.publish(at(device).Fetch(string(d)), wire.Fetch{Offset: int64(len(all)), Bytes: wire.BlobPart})
		m := a.next()
		if len(m.Payload) == 0 {
			return all
		}
		all = append(all, m.Payload...)
	}
}

func TestAFamilyThatNobodyHasIsNotStarted(t *testing.T) {
	t.Parallel() // it waits
	addr := desk(t)
	plants(t, addr, 1)
	serve(t, addr, t.TempDir())
	r := remote(t, addr)
	_, err := r.Do(t.Context(), start("r", spec(func(s *wire.RolloutSpec) {
		s.Mode = ""
		s.Family = &wire.Family{Name: "new", Digest: "sha256:" + strings.Repeat("1", 64)}
	})), patience, nil)
	if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Reason != wire.Precondition ||
		!strings.Contains(err.Error(), "--family FILE") {
		t.Errorf("got %v, want a refusal with the remedy", err)
	}
}
