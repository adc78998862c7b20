package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/dash"
	"github.com/limber-edge/limber/agent/mqtt"
)

// dashArgs are the flags of `limber dash`.
type dashArgs struct {
	operatorArgs
	listen, tokenFile string
	hosts             []string
}

func newDash() *cobra.Command {
	var a dashArgs
	c := &cobra.Command{
		Use:   "dash",
		Short: "Serve a page on which people look at the fleet, until it is stopped",
		Long: `Serve a page on which people look at the fleet: its devices, each with its front,
what it has in use, and its last 20 minutes, and the rollouts with their phases and
gates. It is in the program: a browser is all that it takes, and nothing is fetched
from elsewhere.

Whoever reaches the page may look. Nobody may steer unless --token-file names a file
whose first line, of 16 characters or more, the page asks for; and the broker lets this
user: give an operator's name, or a viewer's to be sure that nobody does.

The page answers to addresses, to localhost, and to names that --host gives it. It has
no TLS: to have it seen from elsewhere put a reverse proxy in front that has, passes
the Host on, and does not keep back what is sent.`,
		Example: `  limber dash
  limber dash --token-file token.txt
  limber dash --broker mqtts://broker:8883 --ca-file certs/ca.crt --cert-file certs/viewer.crt \
    --key-file certs/viewer.key --listen 127.0.0.1:8088 --host fleet.example.com`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	a.flags(c)
	f := c.Flags()
	f.StringVar(&a.listen, "listen", "127.0.0.1:8080", "HOST:PORT to listen on; port 0 is any that is free")
	f.StringVar(&a.tokenFile, "token-file", "",
		"file whose first line is what one must know to steer (default: nobody may)")
	f.StringSliceVar(&a.hosts, "host", nil, "name under which the page is reached, beside localhost; may be repeated")
	return c
}

func (a *dashArgs) run(c *cobra.Command) error {
	broker, err := a.link()
	if err != nil {
		return err
	}
	for _, name := range a.hosts {
		if name == "" || strings.ContainsAny(name, ":/ ") {
			return usagef("--host %q: want the name alone, such as fleet.example.com", name)
		}
	}
	token, err := a.token()
	if err != nil {
		return err
	}
	s, err := dash.New(dash.Config{Broker: broker, Fleet: a.fleet, Listen: a.listen, Hosts: a.hosts, Token: token},
		newLogger(c.ErrOrStderr(), "warn"))
	if err != nil {
		return err
	}
	if readByAll(a.tokenFile) {
		fmt.Fprintf(c.ErrOrStderr(), "limber: everybody on this computer can read %s, and steer with it: `chmod 600 %s`\n",
			a.tokenFile, a.tokenFile)
	}
	if !onThisComputer(a.listen) {
		fmt.Fprintf(c.ErrOrStderr(), "limber: whoever reaches %s may look at the fleet, and sees the token of who steers "+
			"on the way, as there is no TLS: let a reverse proxy listen there, and the page on 127.0.0.1\n", a.listen)
	}
	steers := "; nobody may steer from it without --token-file"
	if token != "" {
		steers = "; who has the token may steer from it"
	}
	fmt.Fprintf(c.OutOrStdout(), "the page of fleet %s is at %s%s\n", a.fleet, s.URL(), steers)
	return s.Run(c.Context())
}

// leastToken is how short a token may be, in bytes.
const leastToken = 16

// token is what one must know to steer; "" where nobody may.
func (a *dashArgs) token() (string, error) {
	if a.tokenFile == "" {
		return "", nil
	}
	line, err := mqtt.FirstLine(a.tokenFile)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	line = strings.TrimSpace(line)
	if len(line) < leastToken {
		return "", fmt.Errorf("--token-file: the first line of %s has %d characters, under %d: `openssl rand -hex 16 > %s` "+
			"makes one that nobody guesses", a.tokenFile, len(line), leastToken, a.tokenFile)
	}
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("--token-file: the first line of %s has a character that is not ASCII, which a browser cannot "+
			"send: `openssl rand -hex 16 > %s` makes one that it can", a.tokenFile, a.tokenFile)
	}
	return line, nil
}

// readByAll tells whether everybody on this computer can read a file; of none, nobody can.
func readByAll(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().Perm()&0o004 != 0
}

// onThisComputer tells whether nobody else reaches an address.
func onThisComputer(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return true // of no use, which is told of where it is used
	}
	at, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && at.IsLoopback()
}
