package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// operatorArgs are the flags of every command that talks to a fleet.
type operatorArgs struct {
	broker, fleet      string
	user, passwordFile string
	caFile             string
	certFile, keyFile  string
}

func (a *operatorArgs) flags(c *cobra.Command) {
	d := agent.Default()
	f := c.Flags()
	f.StringVar(&a.broker, "broker", d.Broker.URL, "URL of the broker")
	f.StringVar(&a.fleet, "fleet", d.Fleet, "name of the fleet")
	f.StringVar(&a.user, "user", "", "name at the broker")
	f.StringVar(&a.passwordFile, "password-file", "", "file whose first line is the password")
	f.StringVar(&a.caFile, "ca-file", "", "PEM of the authorities to trust")
	f.StringVar(&a.certFile, "cert-file", "", "PEM of this client's certificate")
	f.StringVar(&a.keyFile, "key-file", "", "PEM of its key")
}

// link is the configuration of the operator's connection.
func (a *operatorArgs) link() (mqtt.Config, error) {
	if !wire.ValidName(a.fleet) {
		return mqtt.Config{}, usageError{fmt.Errorf("--fleet %q is not [A-Za-z0-9_.-]{1,64}", a.fleet)}
	}
	b := agent.Broker{URL: a.broker, User: a.user, PasswordFile: a.passwordFile, CAFile: a.caFile, CertFile: a.certFile, KeyFile: a.keyFile}
	m, err := b.Link("limber-" + fleet.NewID()[:12])
	if err != nil {
		return mqtt.Config{}, err
	}
	return m, nil
}

// connectTimeout is how long an operator's command waits for the broker.
const connectTimeout = 5 * time.Second

// station connects, runs work with the connection, and disconnects.
func (a *operatorArgs) station(ctx context.Context, stderr io.Writer, filters []string, work func(context.Context, *fleet.Station) error) error {
	cfg, err := a.link()
	if err != nil {
		return err
	}
	s, err := fleet.Open(cfg, newLogger(stderr, "error"), filters...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	wait, stop := context.WithTimeout(ctx, connectTimeout)
	defer stop()
	if err := s.Ready(wait); err != nil {
		return fmt.Errorf("broker %s: %w (`limber broker` starts one for a desk)", a.broker, err)
	}
	return work(ctx, s)
}
