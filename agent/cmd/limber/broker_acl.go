package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/wire"
	brokerconfig "github.com/limber-edge/limber/broker-config"
)

// aclArgs are the flags of `limber broker acl`.
type aclArgs struct {
	format, devices, list string
	groups                []string
}

func newBrokerACL() *cobra.Command {
	var a aclArgs
	c := &cobra.Command{
		Use:   "acl",
		Short: "Write the access list in the form of another broker",
		Long: `Write the access list of broker-config/mosquitto, or one of your own, in the form of
another broker: for NATS, whose users are known by their certificates. It has no
patterns, so the devices must be named, in a file of one name a line, and the list
written again for a new one. The groups get what @all has.`,
		Example: `  limber broker acl --for nats --devices devices.txt --groups @gate,@yard > users.conf`,
		RunE:    func(c *cobra.Command, _ []string) error { return a.write(c.CommandPath(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&a.format, "for", "", "the broker: nats")
	f.StringVar(&a.devices, "devices", "", "file of one name of a device a line")
	f.StringSliceVar(&a.groups, "groups", nil, "groups besides @all, with commas between them")
	f.StringVar(&a.list, "acl", "", "file of an access list in mosquitto's form, as DIR/acl of limber broker certs")
	return c
}

func (a aclArgs) write(command string, w io.Writer) error {
	if err := needed(command, "for", a.format, "devices", a.devices); err != nil {
		return err
	}
	if a.format != "nats" {
		return usageError{fmt.Errorf("--for %q: supported is nats; mosquitto has broker-config/mosquitto/acl", a.format)}
	}
	if i := slices.IndexFunc(a.groups, func(g string) bool { return !wire.ValidGroup(g) }); i >= 0 {
		return usageError{fmt.Errorf("--groups: %q is not @[A-Za-z0-9_.-]{1,64}", a.groups[i])}
	}
	devices, err := readDevices(a.devices)
	if err != nil {
		return err
	}
	acl, err := a.accessList()
	if err != nil {
		return err
	}
	return acl.WriteNATS(w, devices, a.groups)
}

// accessList is the one that was named, or the one that is shipped.
func (a aclArgs) accessList() (*brokerconfig.ACL, error) {
	if a.list == "" {
		return brokerconfig.DefaultACL()
	}
	f, err := os.Open(a.list)
	if err != nil {
		return nil, fmt.Errorf("access list: %w", err)
	}
	defer f.Close()
	acl, err := brokerconfig.ParseACL(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.list, err)
	}
	return acl, nil
}

// readDevices reads names of devices, one a line; a line may be empty or a comment.
func readDevices(path string) (devices []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !wire.ValidDevice(line) {
			return nil, usageError{fmt.Errorf("devices: %s, line %d: %q is no name of a device: "+
				"want [A-Za-z0-9_.-]{1,64}, and not operator, viewer or homeassistant", path, n, line)}
		}
		devices = append(devices, line)
	}
	return devices, nil
}
