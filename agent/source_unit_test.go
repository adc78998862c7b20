package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// idle makes members that nobody runs.
type idle struct {
	engine.Loader
	*family.Family
}

func (idle) Version() string { return "1" }
func (idle) Shared() bool    { return true }
func (idle) Close() error    { return nil }

func (idle) Members(f *family.Family, _ family.Blobs) (Members, error) {
	return func(family.Variant) (engine.Loader, error) { return idle{Family: f}, nil }, nil
}

type idleSession struct{ family.Session }

func (idleSession) Close() error { return nil }

func (idle) Session(int) (family.Session, error) { return idleSession{}, nil }
func (idle) Pin(int) (func() error, error)       { return func() error { return nil }, nil }
func (idle) Variant() family.Variant             { return family.Variant{Provider: family.CPU, Threads: 1} }

func (l idle) Profile(context.Context, []family.Session, func()) (*family.Profile, error) {
	p := &family.Profile{Schema: family.Schema, Family: l.Digest(), Runtime: "1", Options: "cpu/1", Batch: family.Batch,
		Taken: time.Now()}
	for i, m := range l.Family.Members {
		p.Members = append(p.Members, family.MemberProfile{Name: m.Name, P50ms: float64(i + 1)})
	}
	return p, nil
}

// mustOpen opens a device without a configuration of its own.
func mustOpen(t *testing.T, inference func() (Inference, error)) (config.Config, *Deps) {
	t.Helper()
	cfg := config.Default()
	cfg.State, cfg.Runtime.Threads = t.TempDir(), 1
	deps, err := Open(cfg, Options{Inference: inference, Store: store.Options{NoSync: true}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := deps.Close(); err != nil {
			t.Error(err)
		}
	})
	return cfg, deps
}

func TestTheDocumentsNameTheFamilyThatTookOver(t *testing.T) {
	cfg, deps := mustOpen(t, func() (Inference, error) { return idle{}, nil })
	a, err := New(cfg, deps, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.engine.Run(ctx) }()
	<-a.Ready()
	other := *deps.Family
	other.Name, other.Members = "other", other.Members[1:3]
	source, err := deps.SourceOf(&other)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.engine.Replace(ctx, source); err != nil {
		t.Fatal(err)
	}
	said := documents{cfg, deps, a.engine, a.control, a.power, a.updater, nil, a.machine}
	if c := said.Caps(); c.Family.Name != "other" || c.Family.Digest != "sha256:"+string(other.Digest()) ||
		len(c.Members) != 2 || c.Members[0].Name != other.Members[0].Name {
		t.Errorf("caps: got %+v with members %+v", c.Family, c.Members)
	}
	if r := said.Reported(); other.Index(r.Member) < 0 {
		t.Errorf("reported: got member %q", r.Member)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestASourceWithoutARuntimeSaysWhy(t *testing.T) {
	none := errors.New("no ONNX Runtime")
	_, deps := mustOpen(t, func() (Inference, error) { return nil, none })
	s, err := deps.SourceOf(deps.Family)
	if err != nil || s.Open != nil || !errors.Is(s.Fault, none) || s.Family != deps.Family {
		t.Errorf("got %+v, %v", s, err)
	}
	vague := *deps.Family
	vague.Describe = nil
	if _, err := deps.SourceOf(&vague); err == nil || !strings.Contains(err.Error(), "preprocessing") {
		t.Errorf("a family without a description: got %v", err)
	}
}
