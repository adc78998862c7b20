package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/broker-config/brokercheck"
)

func newBrokerCheck() *cobra.Command {
	var operator, device mqtt.Broker
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Find out whether a broker does what a fleet needs",
		Long: `Find out whether a broker does what a fleet needs, in less than a minute: each check
connects as an operator or a device would, and what does not hold comes with a
remedy. Whether devices are kept apart is only tried with the name of a device:
its certificate, or its user. A device of that name may stay connected.

All of it happens in the fleet limber-check. Nothing stays retained there; what a
run that was killed left behind is cleared by the next one.`,
		Example: `  limber broker check
  limber broker check --broker mqtts://broker:8883 --ca-file ca.crt \
    --cert-file operator.crt --key-file operator.key \
    --device-cert-file cam-1.crt --device-key-file cam-1.key --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			device.URL, device.CAFile = operator.URL, operator.CAFile
			name, err := brokercheck.DeviceName(device)
			if err != nil {
				return err
			}
			return checkBroker(c, brokercheck.Config{Operator: operator, Device: device, Name: name}, asJSON)
		},
	}
	operator.URL = mqtt.DefaultBroker().URL
	f := c.Flags()
	f.Var(&operator.URL, "broker", "URL of the broker; several have commas between them")
	f.StringVar(&operator.CAFile, "ca-file", "", "PEM of the authorities to trust")
	f.StringVar(&operator.User, "user", "", "the operator's name at the broker")
	f.StringVar(&operator.PasswordFile, "password-file", "", "file whose first line is the password")
	f.StringVar(&operator.CertFile, "cert-file", "", "PEM of the operator's certificate")
	f.StringVar(&operator.KeyFile, "key-file", "", "PEM of its key")
	f.StringVar(&device.User, "device-user", "", "a device's name at the broker")
	f.StringVar(&device.PasswordFile, "device-password-file", "", "file whose first line is its password")
	f.StringVar(&device.CertFile, "device-cert-file", "", "PEM of a device's certificate")
	f.StringVar(&device.KeyFile, "device-key-file", "", "PEM of its key")
	f.BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// checkBroker prints what the checks found; its error counts those that do not hold.
func checkBroker(c *cobra.Command, cfg brokercheck.Config, asJSON bool) error {
	p := newProgress(c)
	defer p.End()
	var results []brokercheck.Result
	enc := json.NewEncoder(c.OutOrStdout())
	err := brokercheck.Run(c.Context(), cfg, func(name string) {
		p.Tell("checking "+name, len(results), len(brokercheck.Names()))
	}, func(r brokercheck.Result) {
		results = append(results, r)
		if asJSON {
			p.End()
			enc.Encode(r) // an error is told by what reads the lines
		}
	})
	p.End()
	if !asJSON && len(results) > 0 {
		if err := printResults(c.OutOrStdout(), results); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	failed := slices.DeleteFunc(slices.Clone(results), func(r brokercheck.Result) bool { return r.OK })
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d checks do not hold for the broker %s", len(failed), len(results), cfg.Operator.URL)
	}
	return nil
}

func printResults(w io.Writer, results []brokercheck.Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHECK\tHOLDS\tGOT\tREMEDY")
	for _, r := range results {
		holds := "yes"
		switch {
		case !r.OK:
			holds = "no"
		case r.Got == brokercheck.Skipped:
			holds = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Check, holds, r.Got, r.Remedy)
	}
	return t.Flush()
}
