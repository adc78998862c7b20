// Package desk is the device and its operator on one machine, for who wants to
// measure or to show them.
//
//	Device: an agent in this process ◀──▶ a broker ◀──▶ Connect: the operator's client
//
// The one rule: whoever is connected or running is gone when its function returns.
// Device is the only place that knows how an agent is put together and run.
package desk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/store"
)

// Device is an agent with the stock family, or the one installed in its state.
type Device struct {
	deps  *agent.Deps
	agent *agent.Agent
}

// Options are what a device does not take from its defaults.
type Options struct {
	Version   string         // of the program
	Trial     resident.Guard // of foreign models; nil refuses them
	State     string         // folder
	Broker    string         // URL
	Telemetry time.Duration  // between two messages; 0 as by default
	Log       *slog.Logger
}

// Self is the name of a device without a configuration.
func Self() wire.Address {
	d := config.Default()
	return wire.Address{Fleet: d.Fleet, Device: d.Device}
}

// Open puts a device together, and starts nothing. Its error says why the device
// could not infer, too.
func Open(o Options) (*Device, error) {
	cfg := config.Default()
	cfg.State, cfg.Broker.URL = o.State, mqtt.URLs{o.Broker}
	if o.Telemetry > 0 {
		cfg.Telemetry.Every.Duration = o.Telemetry
	}
	deps, err := agent.Open(cfg, agent.Options{Version: o.Version, Inference: func() (agent.Inference, error) {
		return agent.OpenONNXRuntime(cfg.State, o.Trial)
	}}, o.Log)
	if err != nil {
		return nil, err
	}
	d := &Device{deps: deps}
	if err = deps.Fault; err == nil {
		d.agent, err = agent.New(cfg, deps, o.Log)
	}
	if err != nil {
		return nil, errors.Join(err, deps.Close())
	}
	return d, nil
}

// Run works until ctx ends. Being asked to stop is not an error.
func (d *Device) Run(ctx context.Context) error { return d.agent.Run(ctx) }

// Close must not be called while the device runs.
func (d *Device) Close() error { return d.deps.Close() }

// Family is the one that is installed.
func (d *Device) Family() *family.Family { return d.deps.Family }

// Session makes a member ready once more, beside the running agent. The caller
// closes it.
func (d *Device) Session(member int) (family.Session, error) {
	l, err := d.deps.Open(family.Variant{Provider: family.CPU, Threads: 1})
	if err != nil {
		return nil, err
	}
	return l.Session(member)
}

// Answer hands a frame to the running agent, as its link would, and waits for the
// result in the outbox. A refusal is an error.
func (d *Device) Answer(ctx context.Context, body []byte) error {
	select {
	case <-d.agent.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	self, id := Self(), fleet.NewID()
	d.agent.Receive(mqtt.Message{Topic: self.Job(id), Payload: body}, func() {})
	for after := uint64(0); ; { // there is no link: what is answered is late
		records, more := d.deps.Outbox.Collect(store.Late, after, 64)
		for _, r := range records {
			after = r.Seq
			if r.Topic == self.Result(id) {
				return accepted(r.Payload)
			}
		}
		if len(records) > 0 {
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// accepted tells why a result is a refusal.
func accepted(payload []byte) error {
	var result wire.Result
	if err := json.Unmarshal(payload, &result); err != nil {
		return err
	}
	if result.Status != wire.OK {
		return fmt.Errorf("the first frame was refused: %s", result.Detail)
	}
	return nil
}
