//go:build torture

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/lock"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// jobRounds is how often jobs are measured with a release on its way, and without.
const jobRounds = 7

// TestJobsTakeAsLongWhileAReleaseOf200MBComes measures in turns: jobs of the time in which a
// release is fetched and written to its slot, and those of as long a time without. The
// release is cancelled where it would take over, and comes whole again.
func TestJobsTakeAsLongWhileAReleaseOf200MBComes(t *testing.T) {
	f := mustFirmware(t, "mqtt://"+mustBroker(t))
	f.runs("1.4.0")
	library := make([]byte, 200<<20)
	rand.Read(library)
	path := filepath.Join(t.TempDir(), "library")
	mustWrite(t, path, library)
	f.release("1.5.0", map[string]string{"limber": f.program(t, ".", "1.5.0"), "library": path})
	free, err := lock.Share(t.Context(), f.state, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer free()
	s := mustSender(f)
	s.take(lasting(2 * time.Second)) // the first ones take longer
	var ratios []float64
	for i := range jobRounds {
		began := time.Now()
		meanwhile := s.bring(fmt.Sprint("r", i))
		took := time.Since(began)
		s.cancel(fmt.Sprint("r", i))
		without := s.take(lasting(took))
		is, was := at95(meanwhile), at95(without)
		ratios = append(ratios, is/was)
		t.Logf("round %d: %d MiB in %v, p95 of %d jobs %.2f ms; %.2f ms of %d without: %.2f", i, f.sent.Swap(0)>>20,
			took.Round(time.Millisecond), len(meanwhile), is, was, len(without), is/was)
	}
	slices.Sort(ratios)
	t.Logf("p95 while 200 MB come: %.2f of that without, the median of %d rounds, %.2f to %.2f; the goal is 1.25",
		ratios[jobRounds/2], jobRounds, ratios[0], ratios[jobRounds-1])
	if ratios[jobRounds/2] > 1.75 { // what others do on this machine is in it; 1.9 before the thread stood back
		t.Error("jobs take far longer")
	}
}

// bring has the release come until it waits for the lock, and returns what jobs took meanwhile.
func (s *sender) bring(id string) (ms []float64) {
	s.Helper()
	s.send(wire.KindCmd, "release/"+id, fmt.Sprintf(`{"version":"1.5.0","digest":"sha256:%s","ttl_ms":600000}`,
		s.manifests["1.5.0"].Digest()))
	return s.take(func() bool { return s.step != wire.UpdateLocked })
}

// cancel takes the release back.
func (s *sender) cancel(id string) {
	s.Helper()
	s.send(wire.KindCmd, "cancel/c-"+id, fmt.Sprintf(`{"cancel":%q,"ttl_ms":60000}`, id))
	s.take(func() bool { return s.step != "" })
}

// lasting is true for so long.
func lasting(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().Before(end) }
}

// sender sends jobs to the device, and hears what it says of them and of a release.
type sender struct {
	*firmware
	mail  *fleet.Mailbox
	heard chan mqtt.Message
	job   []byte
	jobs  int
	step  wire.UpdatePhase // of the release under way; empty: none is
}

func mustSender(f *firmware) *sender {
	f.Helper()
	picture, _ := mustFrame(f.T, 0)
	png, err := os.ReadFile(picture)
	if err != nil {
		f.Fatal(err)
	}
	s := &sender{firmware: f, heard: make(chan mqtt.Message)}
	deadline := 60_000.0
	if s.job, err = wire.JoinJob(wire.Header{DeadlineMS: &deadline}, png); err != nil {
		f.Fatal(err)
	}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = f.url, "sends"
	self := wire.Address{Fleet: "demo", Device: "desk"}
	s.mail, err = fleet.OpenMailbox(cfg, slog.New(slog.DiscardHandler), self.Filter(wire.KindResult), self.Caps())
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { s.mail.Run(ctx) })
	parts.Go(func() { s.hand(ctx) })
	f.Cleanup(func() { cancel(); parts.Wait() })
	if err := s.mail.Ready(f.Context()); err != nil {
		f.Fatal(err)
	}
	return s
}

// hand hands on what comes, until ctx ends.
func (s *sender) hand(ctx context.Context) {
	for {
		m, err := s.mail.Next(ctx)
		if err != nil {
			return
		}
		select {
		case s.heard <- m:
		case <-ctx.Done():
		}
	}
}

// send publishes what is for the device.
func (s *sender) send(kind wire.Kind, rest, payload string) {
	s.Helper()
	m := mqtt.Message{Topic: fmt.Sprintf("%s/demo/desk/%s/%s", wire.Root, kind, rest), Payload: []byte(payload), QoS: 1}
	if err := s.mail.Publish(s.Context(), m); err != nil {
		s.Fatal(err)
	}
}

// take sends a job every 20 ms for as long as more says so, and returns what each took on the
// device, in ms.
func (s *sender) take(more func() bool) (ms []float64) {
	s.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(2 * time.Minute)
	for sent := 0; more() || len(ms) < sent; {
		select {
		case <-tick.C:
			if more() {
				s.jobs, sent = s.jobs+1, sent+1
				s.send(wire.KindJob, fmt.Sprint("j", s.jobs), string(s.job))
			}
		case m := <-s.heard:
			if took, ok := s.look(m); ok {
				ms = append(ms, took)
			}
		case <-patience:
			s.Fatalf("%d of %d jobs answered, the release is %q\n%s", len(ms), sent, s.step, s.words)
		}
	}
	return ms
}

// look reads a message: ok is true for a result, which took so many ms.
func (s *sender) look(m mqtt.Message) (took float64, ok bool) {
	s.Helper()
	topic, err := wire.ParseTopic(m.Topic)
	if err != nil {
		s.Fatal(err)
	}
	var caps wire.Caps
	var result wire.Result
	if topic.Kind == wire.KindResult {
		err = json.Unmarshal(m.Payload, &result)
	} else if err = json.Unmarshal(m.Payload, &caps); err == nil {
		s.step = ""
		if caps.Update != nil {
			s.step = caps.Update.Step
		}
	}
	if err != nil || result.MS == nil && topic.Kind == wire.KindResult {
		s.Fatalf("%v: %s", err, m.Payload)
	}
	if result.MS == nil {
		return 0, false
	}
	return result.MS.Total, true
}

// at95 is the 95th percentile.
func at95(ms []float64) float64 {
	slices.Sort(ms)
	return ms[len(ms)*95/100]
}
