package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/broker-config/devbroker"
)

func newBroker() *cobra.Command {
	var listen, usersFile string
	c := &cobra.Command{
		Use:   "broker",
		Short: "Run a broker for a desk, in this process and in memory",
		Long: `Run an MQTT 3.1.1 broker for a desk. On loopback it needs no users: a client
without a name is an operator, who may also use topics outside limber/, as
cameras do; one with a name is that device, and the access list of
broker-config/mosquitto applies to it. To listen elsewhere it needs a file of
users, one NAME:PASSWORD a line: the user operator steers, every other one is
the device of that name. For a fleet use a mosquitto with the files of
broker-config.`,
		Example: `  limber broker
  limber broker --listen 0.0.0.0:1883 --users users.txt
  limber fleet ls --user operator --password-file password.txt`,
		RunE: func(c *cobra.Command, _ []string) error {
			users, err := readUsers(usersFile)
			if err != nil {
				return err
			}
			b, err := devbroker.New(devbroker.Config{Listen: listen, Users: users}, newLogger(c.ErrOrStderr(), "info"))
			if err != nil {
				return err
			}
			return b.Run(c.Context())
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:1883", "HOST:PORT to listen on")
	c.Flags().StringVar(&usersFile, "users", "", "file of NAME:PASSWORD lines")
	c.AddCommand(newBrokerCheck())
	return c
}

func readUsers(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
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
