package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// operatorArgs are the flags of every command that talks to a fleet.
type operatorArgs struct {
	broker mqtt.Broker
	fleet  string
}

func (a *operatorArgs) flags(c *cobra.Command) {
	f := c.Flags()
	a.broker.URL = mqtt.DefaultBroker().URL
	f.Var(&a.broker.URL, "broker", "URL of the broker; several have commas between them")
	f.StringVar(&a.fleet, "fleet", wire.DefaultFleet, "name of the fleet")
	f.StringVar(&a.broker.User, "user", "", "name at the broker")
	f.StringVar(&a.broker.PasswordFile, "password-file", "", "file whose first line is the password")
	f.StringVar(&a.broker.CAFile, "ca-file", "", "PEM of the authorities to trust")
	f.StringVar(&a.broker.CertFile, "cert-file", "", "PEM of this client's certificate")
	f.StringVar(&a.broker.KeyFile, "key-file", "", "PEM of its key")
}

// client connects a client, runs work with it, and disconnects.
func (a *operatorArgs) client(ctx context.Context, stderr io.Writer, filters []string,
	work func(context.Context, *fleet.Client) error) error {
	if !wire.ValidName(a.fleet) {
		return usageError{fmt.Errorf("--fleet %q is not [A-Za-z0-9_.-]{1,64}", a.fleet)}
	}
	cfg, err := a.broker.Config("limber-" + fleet.NewID()[:12])
	if err != nil {
		return err
	}
	c, err := fleet.Open(cfg, newLogger(stderr, "error"), filters...)
	if err != nil {
		return err
	}
	return c.While(ctx, " (`limber broker` starts one for a desk)", func(ctx context.Context) error {
		return work(ctx, c)
	})
}
