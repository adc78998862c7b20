package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/store"
)

// serveArgs are the flags of `fleet serve`.
type serveArgs struct {
	operatorArgs
	state, http, logLevel string
	hass                  bool
}

func newFleetServe() *cobra.Command {
	var a serveArgs
	c := &cobra.Command{
		Use:   "serve",
		Short: "Roll families, releases, modes and goals out to the fleet, until it is stopped",
		Long: `Serve a fleet as its controller, in the foreground: it carries out rollouts, answers
devices that ask what time it is as "fleet sync" does, and gives devices the blobs of
the families that are rolled out to them. Run one for a fleet. Another that finds it
there exits with 3, and so does one whose state folder is in use.

It may be killed at any moment: started again from the same folder it goes on, and no
device does anything twice. What devices do meanwhile is theirs: a family that fails
its probation goes back by itself.

With --http, blobs are served there as well, to all who know their SHA-256, and devices
that allow that URL in updates.sources take them from it. Give the address by which
devices reach this machine.

With --hass Home Assistant on the same broker finds each device by itself: its mode, which
can be set there, latency, top-1, temperature, member and release. It comes as a user of
its own, "homeassistant" in the access list.`,
		Example: `  limber fleet serve --state ./controller
  limber fleet serve --state /var/lib/limber-controller --http 192.0.2.10:8080 --broker mqtts://broker:8883
  limber fleet serve --state ./controller --hass`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	a.flags(c)
	f := c.Flags()
	f.StringVar(&a.state, "state", "", "folder for what the controller must remember (required)")
	f.StringVar(&a.http, "http", "", "HOST:PORT at which blobs are served by HTTP as well (default: nowhere)")
	f.BoolVar(&a.hass, "hass", false, "tell Home Assistant of the devices, and let it set their modes")
	f.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

func (a *serveArgs) run(c *cobra.Command) (err error) {
	if err := needed("limber fleet serve", "state", a.state); err != nil {
		return err
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, a.logLevel) {
		return usagef("--log-level %q is not debug, info, warn or error", a.logLevel)
	}
	cfg, err := a.link()
	if err != nil {
		return err
	}
	log := newLogger(c.ErrOrStderr(), a.logLevel)
	documents, err := store.OpenDocuments(a.state, store.Options{}, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, documents.Close()) }()
	s, err := controller.New(controller.Config{Fleet: a.fleet, Broker: cfg, Dir: a.state, HTTP: a.http, Hass: a.hass},
		documents, log)
	if err != nil {
		return err
	}
	if source := s.Source(); source != "" {
		fmt.Fprintf(c.OutOrStdout(), "blobs are at %s: devices take them from there with updates.sources = [%q]\n",
			source, source)
	}
	return withRemedy(s.Run(c.Context()))
}
