package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/broker-config/certs"
	"github.com/limber-edge/limber/broker-config/devbroker"
)

// brokerArgs are the flags of `limber broker`.
type brokerArgs struct {
	listen, websocket, users, certs string
}

func newBroker() *cobra.Command {
	var a brokerArgs
	c := &cobra.Command{
		Use:   "broker",
		Short: "Run a broker for a desk, in this process and in memory",
		Long: `Run an MQTT 3.1.1 broker for a desk. On loopback it needs no users: a client
without a name is an operator, who may also use topics outside limber/, as
cameras do; one with a name is that device, and the access list of
broker-config/mosquitto applies to it. To listen elsewhere it needs certificates
or users.

With --certs, a folder that ` + "`limber broker certs`" + ` made, everybody needs a certificate,
whose common name is the user, and all is encrypted; the port is 8883 unless
--listen says otherwise, and the access list is DIR/acl if there is one. With
--users, a file of NAME:PASSWORD lines, everybody needs a password. Either way the
user operator steers, the user viewer looks on, and every other one is the
device of that name. --ws serves WebSockets as well, on every path.
For a fleet use a mosquitto with the files of broker-config, or a broker that
` + "`limber broker check`" + ` finds fit.`,
		Example: `  limber broker
  limber broker --certs certs --listen 0.0.0.0:8883 --ws 0.0.0.0:8884
  limber fleet ls --broker mqtts://localhost --ca-file certs/ca.crt --cert-file certs/operator.crt \
    --key-file certs/operator.key

  limber broker --listen 0.0.0.0:1883 --users users.txt
  limber fleet ls --user operator --password-file password.txt`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.config(c)
			if err != nil {
				return err
			}
			b, err := devbroker.New(cfg, newLogger(c.ErrOrStderr(), "info"))
			if err != nil {
				return err
			}
			return b.Run(c.Context())
		},
	}
	c.Flags().StringVar(&a.listen, "listen", "127.0.0.1:1883", "HOST:PORT to listen on")
	c.Flags().StringVar(&a.websocket, "ws", "", "HOST:PORT to listen on for WebSockets, ws:// or, with --certs, wss://")
	c.Flags().StringVar(&a.users, "users", "", "file of NAME:PASSWORD lines")
	c.Flags().StringVar(&a.certs, "certs", "", "folder of certificates")
	c.AddCommand(newBrokerCerts(), newBrokerACL(), newBrokerCheck())
	return c
}

// config is what the flags ask for.
func (a *brokerArgs) config(c *cobra.Command) (devbroker.Config, error) {
	cfg := devbroker.Config{Listen: a.listen, WebSocket: a.websocket}
	var err error
	switch {
	case a.users != "" && a.certs != "":
		return cfg, usageError{fmt.Errorf("both --users and --certs: give one of them; see `%s --help`", c.CommandPath())}
	case a.users != "":
		cfg.Users, err = readUsers(a.users)
		return cfg, err
	case a.certs == "":
		return cfg, nil
	}
	if !c.Flags().Changed("listen") {
		cfg.Listen = "127.0.0.1:8883"
	}
	if cfg.TLS, err = certs.Server(a.certs); err == nil {
		cfg.ACL, err = certs.AccessList(a.certs)
	}
	if err != nil {
		err = fmt.Errorf("certs: %w (`limber broker certs` makes them)", err)
	}
	return cfg, err
}

func readUsers(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	users := map[string]string{}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		if !ok || name == "" || password == "" {
			return nil, fmt.Errorf("users: %s, line %d: want NAME:PASSWORD", path, n)
		}
		users[name] = password
	}
	return users, nil
}
