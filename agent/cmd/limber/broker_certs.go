package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	brokerconfig "github.com/limber-edge/limber/broker-config"
	"github.com/limber-edge/limber/broker-config/certs"
)

func newBrokerCerts() *cobra.Command {
	request := certs.Request{}
	var devices, operators, viewers, houses []string
	c := &cobra.Command{
		Use:   "certs",
		Short: "Make the certificates of a fleet: the broker's, and one for each who comes to it",
		Long: `Make certificates in a folder, each NAME.crt with its NAME.key, signed by an
authority that is made at the first call and used again: ca.crt, ca.key. The
broker's is server.crt; --server has the names and addresses by which clients
reach it, and may be left out where it is there already. Keys can be read by
their owner alone; keep ca.key off the broker and off every device.

Who comes to the broker is known by the common name of the certificate. A device
may speak for itself. The names "operator", "viewer" and "homeassistant" are those that
the shipped access list lets steer the fleet, look at it, and show it in Home Assistant
("limber fleet serve --hass"); for one of another name lines are added to DIR/acl, which
begins as that list and takes its place: copy it to where the broker's acl_file is.
Lines of your own stay as they are.

A NAME that is there is an error. With --renew it gets a new certificate for the
key it has: the key need not be here, and only NAME.crt has to be replaced where
it is used. For a new key remove both files first. A certificate cannot be taken
back before it ends, but "user NAME" and "topic deny #" in the access list take
every right from it.`,
		Example: `  limber broker certs --out certs --server broker.example,10.0.0.7 --device cam-17 --operator operator
  limber broker certs --out certs --device cam-18 --viewer viewer --operator alice
  limber broker certs --out certs --device cam-17 --days 90 --renew
  limber broker --certs certs --listen 0.0.0.0:8883`,
		RunE: func(c *cobra.Command, _ []string) error {
			request.Names = map[brokerconfig.Role][]string{
				brokerconfig.Device: devices, brokerconfig.Operator: operators, brokerconfig.Viewer: viewers,
				brokerconfig.HomeAssistant: houses}
			return makeCerts(c, request)
		},
	}
	f := c.Flags()
	f.StringVar(&request.Dir, "out", "", "folder of the certificates")
	f.StringSliceVar(&request.Server, "server", nil, "names and addresses of the broker, with commas between them")
	f.StringArrayVar(&devices, "device", nil, "name of a device; may be given again")
	f.StringArrayVar(&operators, "operator", nil, "name of one who steers the fleet; may be given again")
	f.StringArrayVar(&viewers, "viewer", nil, "name of one who only looks at it; may be given again")
	f.StringArrayVar(&houses, "home-assistant", nil, "name of a Home Assistant; may be given again")
	f.BoolVar(&request.Cluster, "cluster", false, "the broker is a cluster, whose nodes know each other by its certificate")
	f.IntVar(&request.Days, "days", 365, "days that they are good for")
	f.BoolVar(&request.Renew, "renew", false, "make those that are there anew, for the same keys")
	return c
}

func makeCerts(c *cobra.Command, request certs.Request) error {
	if err := needed(c.CommandPath(), "out", request.Dir); err != nil {
		return err
	}
	if err := request.Validate(); err != nil {
		return usageError{err}
	}
	made, err := certs.Make(request, time.Now())
	for _, m := range made {
		fmt.Fprintf(c.OutOrStdout(), "%s: %s, until %s\n", m.File, m.What, m.Until.Format(time.DateOnly))
	}
	if errors.Is(err, certs.ErrNoServer) {
		return usageError{fmt.Errorf("--server is missing: %w", err)}
	}
	return err
}
