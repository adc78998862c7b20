package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/firmware/power"
)

// helperArgs are the flags of `limber power-helper`.
type helperArgs struct {
	socket, user, root string
	allow              []string
	reboot             bool
}

func newPowerHelper() *cobra.Command {
	var a helperArgs
	c := &cobra.Command{
		Use:   "power-helper",
		Short: "Set power modes for an agent that does not run as root",
		Long: `Set the power modes that --allow names, for the agent and for nobody else. It is the
only part of a device that needs root: it listens at a socket (or is handed one by
systemd), asks the kernel who is at the other end, and serves root and the user of the
agent. Each connection is good for one line of JSON, of at most 4 KiB within 5 s, and one
is served at a time:

  {"set":"MODE_15W","at_reboot":false}
  {"ok":true,"mode":"MODE_15W"}

Nothing but a name of --allow is ever looked up, and nvpmodel gets the number that it
stands for. With --allow-reboot a line may have "allow_reboot":true, and nvpmodel then
reboots the board for a mode that takes it.`,
		Example: `  limber power-helper --allow MODE_15W,MODE_30W
  limber power-helper --allow clock-100,clock-50 --socket /run/limber/power.sock --user limber`,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	f := c.Flags()
	f.StringVar(&a.socket, "socket", power.DefaultSocket, "path of the socket, unless systemd hands one over")
	f.StringSliceVar(&a.allow, "allow", nil, "power modes that may be set, with commas between them")
	f.StringVar(&a.user, "user", "limber", "user of the agent")
	f.BoolVar(&a.reboot, "allow-reboot", false, "the board may be rebooted for a mode that takes it")
	f.StringVar(&a.root, "root", "/", "folder that the board's files lie in; another one to try it")
	return c
}

func (a *helperArgs) run(c *cobra.Command) error {
	if len(a.allow) == 0 {
		return usagef("power-helper: --allow is missing: name the power modes that may be set; see `%s --help`",
			c.CommandPath())
	}
	for _, mode := range a.allow {
		if !wire.ValidName(mode) {
			return usagef("--allow: %q is not a power mode; see `%s --help`", mode, c.CommandPath())
		}
	}
	log := newLogger(c.ErrOrStderr(), "info")
	peers, group, err := a.peers(log)
	if err != nil {
		return err
	}
	l, err := a.listen(group)
	if err != nil {
		return err
	}
	log.Info("power helper starts", "socket", l.Addr(), "modes", a.allow)
	cfg := power.HelperConfig{Allow: a.allow, Peers: peers, Reboot: a.reboot}
	return power.NewHelper(power.New(a.root), cfg, log).Run(c.Context(), l)
}

// peers are the users to be served, and the group that the socket is for, -1 if that is
// not known.
func (a *helperArgs) peers(log *slog.Logger) (users []uint32, group int, err error) {
	users = []uint32{0}
	if own := uint32(os.Geteuid()); own != 0 {
		users = append(users, own) // who has its rights anyway
	}
	u, err := user.Lookup(a.user)
	if unknown, ok := errors.AsType[user.UnknownUserError](err); ok {
		log.Warn("the user of the agent does not exist: only root is served", "err", unknown)
		return users, -1, nil
	} else if err != nil {
		return nil, -1, fmt.Errorf("--user: %w", err)
	}
	uid, bad1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, bad2 := strconv.Atoi(u.Gid)
	if err := errors.Join(bad1, bad2); err != nil {
		return nil, -1, fmt.Errorf("--user %s: %w", a.user, err)
	}
	return slices.Compact(append(users, uint32(uid))), gid, nil
}

func (a *helperArgs) listen(group int) (*net.UnixListener, error) {
	l, err := power.Inherited(os.Getenv)
	if l != nil || err != nil {
		return l, err
	}
	if os.Geteuid() != 0 {
		group = -1 // only root gives a socket away
	}
	if l, err = power.Listen(a.socket, group); err != nil {
		return nil, fmt.Errorf("%w; --socket names another one", err)
	}
	return l, nil
}
