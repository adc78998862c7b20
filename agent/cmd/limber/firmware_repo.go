package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/firmware/repo"
)

// repoArgs are the flags that commands on a repository share.
type repoArgs struct {
	dir  string
	keys []string
}

func newFirmwareRepo() *cobra.Command {
	c := group("repo", "Keep a folder of signed releases and families",
		`  limber firmware repo init --repo ./repo --keys ./keys
  limber firmware repo add --repo ./repo --keys ./keys --version 1.4.0 --arch arm64 ./release
  limber firmware repo serve --repo ./repo --listen 0.0.0.0:8090`)
	c.Long = c.Short + `, whose metadata is that of The
Update Framework (TUF). Any web server may serve it; what is beside metadata/, targets/
and blobs/ is for those who sign.

Every command signs with the keys that are in --keys. What a role has too few
signatures for waits in staged/ until "sign" has run with the others, on any machine
that has a copy of the folder; what devices see is always complete.`
	c.AddCommand(newRepoInit(), newRepoAdd(), newRepoWithdraw(), newRepoSign(), newRepoRotate(), newRepoStatus(),
		newRepoServe())
	return c
}

func (a *repoArgs) flags(c *cobra.Command, keys bool) {
	c.Flags().StringVar(&a.dir, "repo", "", "folder of the repository (required)")
	if keys {
		c.Flags().StringArrayVar(&a.keys, "keys", nil, "folder of keys; may be given again (required)")
	}
}

func (a *repoArgs) ring(c *cobra.Command) ([]repo.Key, error) {
	if err := needed(c.CommandPath(), "repo", a.dir); err != nil {
		return nil, err
	}
	if len(a.keys) == 0 {
		return nil, usagef("%s: --keys is missing; see `%s --help`", c.CommandPath(), c.CommandPath())
	}
	return repo.ReadKeys(a.keys...)
}

// edit changes a repository, as nobody else does meanwhile, and makes visible what can be.
func (a *repoArgs) edit(c *cobra.Command, change func(*repo.Repository) error) error {
	keys, err := a.ring(c)
	if err != nil {
		return err
	}
	unlock, err := repo.Lock(c.Context(), a.dir, func() {
		fmt.Fprintf(c.ErrOrStderr(), "limber: waiting: another command edits %s\n", a.dir)
	})
	if err != nil {
		return err
	}
	defer unlock()
	r, err := repo.Open(a.dir, keys, time.Now())
	if err == nil {
		err = change(r)
	}
	if err != nil {
		return err
	}
	return a.publish(c.OutOrStdout(), r)
}

func (a *repoArgs) publish(w io.Writer, r *repo.Repository) error {
	done, err := r.Publish()
	if err != nil {
		return err
	}
	if len(done.Visible) == 0 {
		fmt.Fprintln(w, "devices see what they saw before")
	} else {
		fmt.Fprintf(w, "devices see new versions of %s\n", strings.Join(done.Visible, ", "))
	}
	for _, role := range done.Overtaken {
		fmt.Fprintf(w, "what waited of %s is given up: another copy of the repository was ahead of it; do it again\n", role)
	}
	for _, one := range done.Waiting {
		fmt.Fprintf(w, "waiting: %s %d: %s\n", one.Role, one.Version, one.Why)
	}
	if len(done.Waiting) > 0 {
		fmt.Fprintf(w, "`limber firmware repo sign --repo %s --keys ...` signs with other keys\n", a.dir)
	}
	return nil
}

func newRepoInit() *cobra.Command {
	var a repoArgs
	var thresholds map[string]int
	var expires map[string]string
	c := &cobra.Command{
		Use:   "init",
		Short: "Begin a repository",
		Long: `Begin a repository. A role is signed for by the keys of its name in --keys, of which
the public halves will do: those who have the others run "sign".

Give devices the file metadata/1.root.json and name it as updates.root_file: what is not
signed by those whom it names is then refused.

With --threshold so many must sign for a role, 1 where nothing is said. With --expires a
role's metadata is good for that long; a device takes nothing after that, until it was
signed anew. By default that is 7d for timestamp, 30d for snapshot and 365d for the rest.`,
		Example: `  limber firmware repo init --repo ./repo --keys ./keys
  limber firmware repo init --repo ./repo --keys ./keys --threshold root=2,releases=2 --expires timestamp=14d`,
		RunE: func(c *cobra.Command, _ []string) error {
			setup := repo.Setup{Thresholds: thresholds}
			var err error
			if setup.Lifetimes, err = lifetimes(expires); err != nil {
				return err
			}
			if err := checkRoles("threshold", maps.Keys(thresholds)); err != nil {
				return err
			}
			keys, err := a.ring(c)
			if err != nil {
				return err
			}
			r, err := repo.Init(a.dir, keys, setup, time.Now())
			if err != nil {
				return err
			}
			return a.publish(c.OutOrStdout(), r)
		},
	}
	a.flags(c, true)
	c.Flags().StringToIntVar(&thresholds, "threshold", nil, "ROLE=N: how many must sign for a role")
	expiresFlag(c, &expires)
	return c
}

func expiresFlag(c *cobra.Command, expires *map[string]string) {
	c.Flags().StringToStringVar(expires, "expires", nil, "ROLE=7d or ROLE=12h: how long what a role signs is "+
		"good for, from now on")
}

func checkRoles(flag string, names func(func(string) bool)) error {
	for name := range names {
		if err := repo.CheckRole(name); err != nil {
			return usageError{fmt.Errorf("--%s: %w", flag, err)}
		}
	}
	return nil
}

// lifetimes reads how long roles' documents are good for.
func lifetimes(by map[string]string) (map[repo.Role]time.Duration, error) {
	if err := checkRoles("expires", maps.Keys(by)); err != nil {
		return nil, err
	}
	all := map[repo.Role]time.Duration{}
	for _, role := range slices.Sorted(maps.Keys(by)) {
		d, err := time.ParseDuration(by[role])
		if days, ok := strings.CutSuffix(by[role], "d"); ok {
			var n int
			n, err = strconv.Atoi(days)
			d = time.Duration(max(-1, min(n, 1<<15))) * 24 * time.Hour // more would overflow, and is refused
		}
		if err != nil || d < time.Minute || d > 20*365*24*time.Hour {
			return nil, usagef("--expires: %s=%s is not from 1m to twenty years, such as 12h or 7d", role, by[role])
		}
		all[role] = d
	}
	return all, nil
}

func newRepoSign() *cobra.Command {
	var a repoArgs
	var renew []string
	var expires map[string]string
	c := &cobra.Command{
		Use:   "sign",
		Short: "Sign what waits, or what expires soon",
		Long: `Sign what waits for signatures with the keys at hand, and let devices see what is
complete then. "status" says before what it would change. What nobody will sign is given
up by removing it from staged/.

With --renew a role's metadata is made and signed anew, good for as long as it was: run
it for timestamp every day, from a timer.`,
		Example: `  limber firmware repo sign --repo ./repo --keys /media/stick
  limber firmware repo sign --repo ./repo --keys ./keys --renew timestamp
  limber firmware repo sign --repo ./repo --keys ./keys --renew snapshot,timestamp --expires snapshot=60d`,
		RunE: func(c *cobra.Command, _ []string) error {
			by, err := lifetimes(expires)
			if err != nil {
				return err
			}
			if err := checkRoles("renew", slices.Values(renew)); err != nil {
				return err
			}
			return a.edit(c, func(r *repo.Repository) error {
				if err := r.SetLifetimes(by); err != nil {
					return err
				}
				for _, role := range renew {
					if !r.Signs(role) { // a timer whose keys went elsewhere is to be noticed
						return fmt.Errorf("--renew %s: no key in --keys signs for it", role)
					}
				}
				for _, change := range r.Changes() {
					fmt.Fprintf(c.OutOrStdout(), "what waits says: %s\n", change)
				}
				return r.Renew(renew...)
			})
		},
	}
	a.flags(c, true)
	c.Flags().StringSliceVar(&renew, "renew", nil, "roles whose metadata is made anew, with commas between them")
	expiresFlag(c, &expires)
	return c
}

func newRepoRotate() *cobra.Command {
	var a repoArgs
	var t repo.Rotation
	var add []string
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Change who signs for a role",
		Long: `Change the keys of a role, or how many of them must sign. Root's are changed by as many
of its keys as must sign, and as many of the new ones; those of targets, snapshot and
timestamp by root; those of releases and families by targets.

A key that is lost is removed and another one added, as long as enough of those above
are left. Where somebody else may have had the keys of snapshot or timestamp, change
both: devices then forget which versions they saw, which may have been made too great to
be followed by any other. Devices that were off for long follow each root in turn, so
never delete metadata/N.root.json.`,
		Example: `  limber firmware repo rotate --repo ./repo --keys ./keys --role releases --add bob/releases-bob.pub
  limber firmware repo rotate --repo ./repo --keys ./keys --role root --remove 1f2e3d4c --add carol/root-carol.pub
  limber firmware repo rotate --repo ./repo --keys ./keys --role root --threshold 2`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needed(c.CommandPath(), "role", t.Role); err != nil {
				return err
			}
			if err := checkRoles("role", slices.Values([]string{t.Role})); err != nil {
				return err
			}
			if len(add)+len(t.Remove) == 0 && t.Threshold == 0 {
				return usagef("%s wants --add, --remove or --threshold; see `%s --help`", c.CommandPath(), c.CommandPath())
			}
			for _, file := range add {
				k, err := repo.ReadKey(file)
				if err != nil {
					return err
				}
				t.Add = append(t.Add, k)
			}
			return a.edit(c, func(r *repo.Repository) error { return r.Rotate(t) })
		},
	}
	a.flags(c, true)
	f := c.Flags()
	f.StringVar(&t.Role, "role", "", "whose keys change (required)")
	f.StringArrayVar(&add, "add", nil, "key file, of which the public half will do; may be given again")
	f.StringArrayVar(&t.Remove, "remove", nil, "key, by its first 8 characters or more, as \"status\" shows them; may be "+
		"given again")
	f.IntVar(&t.Threshold, "threshold", 0, "how many must sign; 0 is as many as before")
	return c
}
