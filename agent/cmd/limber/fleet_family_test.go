package main

import (
	"context"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/stock"
)

func TestAFamilyIsRolledOutToARealDevice(t *testing.T) {
	d := mustDesk(t)
	serveFleet(t, "fleet", "serve", "--state", t.TempDir(), "--broker", d.url)
	f, err := stock.Family()
	if err != nil {
		t.Fatal(err)
	}
	f.Name = "another" // with the same members
	cfg := mqtt.Default()
	cfg.Broker, cfg.ClientID = d.url, "test"
	r, err := controller.OpenRemote(cfg, wire.DefaultFleet, newLogger(t.Output(), "error"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err = r.While(ctx, func(ctx context.Context) error {
		go r.Serve(ctx, f)
		spec := wire.RolloutSpec{Gates: []wire.Gate{{Name: wire.GateSuccess, Limit: "0.9"}}, SoakMS: new(0.0)}
		spec.Family = &wire.Family{Name: f.Name, Digest: "sha256:" + string(f.Digest())}
		spec.Probation = &wire.Probation{}
		if _, err := r.Do(ctx, wire.RolloutCommand{Action: wire.RolloutStart, Rollout: "r", Spec: &spec}, rolloutTTL, nil); err != nil {
			return err
		}
		return (&followed{Remote: r, id: "r", wait: true}).print(ctx, t.Output(), t.Output(), false)
	})
	if err != nil {
		t.Fatal(err)
	}
}
