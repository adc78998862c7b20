package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// mustAnswers runs a broker and, in place of the desk's agent, a device that
// waits for a number of jobs, answers those that answer lists, in its order, and
// begins anew.
func mustAnswers(t *testing.T, jobs int, answer ...int) (url string) {
	t.Helper()
	return mustAnswersAt(t, mustBroker(t), jobs, answer...)
}

// mustAnswersAt is mustAnswers at a broker that runs.
func mustAnswersAt(t *testing.T, addr string, jobs int, answer ...int) (url string) {
	t.Helper()
	url = "mqtt://" + addr
	self := wire.Address{Fleet: "demo", Device: "desk"}
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = url, "device"
	s, err := fleet.OpenMailbox(cfg, slog.New(slog.DiscardHandler), self.Filter(wire.KindJob))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	go func() { served <- serveJobs(ctx, s, self, jobs, answer) }()
	t.Cleanup(func() {
		cancel()
		<-ran
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return url
}

func serveJobs(ctx context.Context, s *fleet.Mailbox, self wire.Address, jobs int, answer []int) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	online, err := json.Marshal(wire.State{State: wire.Online, TS: wire.At(time.Now())})
	if err != nil {
		return err
	}
	if err := s.Publish(ctx, mqtt.Message{Topic: self.State(), Payload: online, QoS: 1, Retained: true}); err != nil {
		return err
	}
	for {
		var ids []string
		for len(ids) < jobs {
			m, err := s.Next(ctx)
			if err != nil {
				return nil // the test is over
			}
			t, err := wire.ParseTopic(m.Topic)
			if err != nil {
				return err
			}
			ids = append(ids, t.ID)
		}
		for _, i := range answer {
			if err := answerJob(ctx, s, self, ids[i], fmt.Sprintf("class-%d", i)); err != nil {
				return err
			}
		}
	}
}

func answerJob(ctx context.Context, s *fleet.Mailbox, self wire.Address, id, class string) error {
	b, err := json.Marshal(wire.Result{ID: id, Status: wire.OK, Member: "m", Met: true, MS: &wire.Timing{Total: 1},
		DeadlineMS: 100,
		Classes:    []wire.Class{{Label: class, P: 1}}})
	if err != nil {
		return err
	}
	return s.Publish(ctx, mqtt.Message{Topic: self.Result(id), Payload: b, QoS: 1})
}

// mustFiles writes n files that a device of this test does not look into.
func mustFiles(t *testing.T, n int) []string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for i := range n {
		files = append(files, filepath.Join(dir, fmt.Sprintf("%d.png", i)))
		mustWrite(t, files[i], []byte("a picture"))
	}
	return files
}

func TestAnswersArePrintedInTheOrderOfTheFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer []int
		code   int
		want   []string // classes, in the order of lines
		says   string
	}{
		{"they come backwards", []int{3, 2, 1, 0}, exitDone, []string{"class-0", "class-1", "class-2", "class-3"}, ""},
		{"the first never comes", []int{3, 1}, exitFailed, []string{"class-1", "class-3"}, "2 of 4 frames were not answered"},
	} {
		for _, asJSON := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, json %v", tt.name, asJSON), func(t *testing.T) {
				t.Parallel()
				url := mustAnswers(t, 4, tt.answer...)
				wait := "20s"
				if tt.code != exitDone {
					wait = "1s"
				}
				got := limber(t, append([]string{"publish", "--broker", url, "--wait", wait, fmt.Sprintf("--json=%v", asJSON)},
					mustFiles(t, 4)...)...)
				lines := slices.Collect(strings.Lines(got.stdout))
				if got.code != tt.code || len(lines) != len(tt.want) || !strings.Contains(got.stderr, tt.says) {
					t.Fatalf("got %+v; want exit %d, %d lines and %q", got, tt.code, len(tt.want), tt.says)
				}
				for i, l := range lines {
					if !strings.Contains(l, tt.want[i]) || json.Valid([]byte(l)) != asJSON {
						t.Errorf("line %d: got %q, want %s", i, l, tt.want[i])
					}
				}
			})
		}
	}
}

func TestMoreFramesThanAreSentAheadAreAllAnswered(t *testing.T) {
	t.Parallel()
	n := 2*fleet.UnderWay + 3
	got := limber(t, append([]string{"publish", "--broker", mustAnswers(t, 1, 0), "--json"}, mustFiles(t, n)...)...)
	lines := slices.Collect(strings.Lines(got.stdout))
	if got.code != exitDone || len(lines) != n {
		t.Fatalf("got %+v; want exit 0 and %d lines", got, n)
	}
	for i, l := range lines {
		if want := fmt.Sprintf("-%d\",", i); !strings.Contains(l, want) {
			t.Errorf("line %d: got %q, want an id that ends in %s", i, l, want)
		}
	}
}

func TestAFileThatIsNoFrameIsNamedBeforeAnythingIsSent(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "good.png"), []byte("a picture"))
	mustWrite(t, filepath.Join(dir, "empty.png"), nil)
	mustWrite(t, filepath.Join(dir, "large.png"), nil)
	if err := os.Truncate(filepath.Join(dir, "large.png"), frameLimit+1); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, file, says string }{
		{"missing", "none.png", "there is no such file"},
		{"a folder", ".", "it is a folder; name the files in it"},
		{"empty", "empty.png", "the file is empty; a frame is a JPEG, PNG or WebP picture"},
		{"too large", "large.png", "more than the 16 MiB that a device may take; send a smaller picture"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// No broker is there: it is not even asked.
			limber(t, "publish", "--broker", "127.0.0.1:1", filepath.Join(dir, "good.png"), filepath.Join(dir, tt.file)).
				complained(t, exitFailed, "frame "+filepath.Join(dir, tt.file), tt.says)
		})
	}
}

func TestAPipeIsAFrame(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("a picture"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	name := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if err := checkFrame(name); err != nil {
		t.Fatal(err)
	}
	if b, err := readFrame(name); err != nil || string(b) != "a picture" {
		t.Errorf("got %q, %v; want what was written", b, err)
	}
}

func TestTheBrokersLimitIsNamedWhenAFrameIsOverIt(t *testing.T) {
	t.Parallel()
	large := filepath.Join(t.TempDir(), "large.png")
	mustWrite(t, large, make([]byte, 60_000))
	for _, tt := range []struct {
		name, limit string
		says        []string
	}{
		{"the broker hangs up", "max_packet_size 50000",
			[]string{"frame " + large + " was not sent", "3 connections", "60008 bytes", "likely over the broker's limit",
				"max_packet_size", "smaller picture"}},
		{"the broker says nothing", "message_size_limit 50000",
			[]string{"1 of 2 frames were not answered", "limber fleet ls", "the broker's limit", "60008 bytes",
				"message_size_limit"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := mustAnswersAt(t, brokertest.StartMosquitto(t, "allow_anonymous true", tt.limit).Addr, 1, 0)
			got := limber(t, "publish", "--broker", url, "--wait", "3s", mustFiles(t, 1)[0], large)
			for _, part := range tt.says {
				if got.code != exitFailed || !strings.Contains(got.stderr, part) {
					t.Errorf("got exit %d and %q; want exit 1 and %q", got.code, got.stderr, part)
				}
			}
		})
	}
}

func TestAFrameThatIsSmallIsNotBlamed(t *testing.T) {
	t.Parallel()
	files := mustFiles(t, 2)
	got := limber(t, "publish", "--broker", mustAnswers(t, 2, 1), "--wait", "1s", files[0], files[1])
	if got.code != exitFailed || strings.Contains(got.stderr, "limit") {
		t.Errorf("got %+v; want exit 1 without a word of a limit, for one as large was answered", got)
	}
}

func TestAnAbsentDeviceIsNamedWithARemedy(t *testing.T) {
	t.Parallel()
	url := "mqtt://" + mustBroker(t)
	limber(t, "publish", "--broker", url, "--wait", "300ms", mustFiles(t, 1)[0]).
		complained(t, exitFailed, "device desk of fleet demo is not there: it has never been at this broker", "limber agent")
	got := limber(t, "fleet", "ls", "--broker", url)
	if got.code != exitDone || !strings.Contains(got.stdout, "no device of fleet demo has ever been at this broker") {
		t.Errorf("got %+v; want exit 0 and a sentence", got)
	}
	if got := limber(t, "fleet", "ls", "--json", "--broker", url); got != (ran{}) {
		t.Errorf("got %+v; want exit 0 and no line", got)
	}
}
