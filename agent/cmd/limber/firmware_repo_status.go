package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/firmware/repo"
)

// repoStatus is what `repo status --json` prints.
type repoStatus struct {
	Roles   []repo.RoleStatus `json:"roles"`
	Targets []repo.Target     `json:"targets"`
	Changes []string          `json:"changes"` // that wait for signatures, in words
}

func newRepoStatus() *cobra.Command {
	var a repoArgs
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what devices may take, what expires when and what waits for whom",
		Example: `  limber firmware repo status --repo ./repo
  limber firmware repo status --repo ./repo --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needed(c.CommandPath(), "repo", a.dir); err != nil {
				return err
			}
			r, err := repo.Open(a.dir, nil, time.Now())
			if err != nil {
				return err
			}
			s := repoStatus{r.Status(), append([]repo.Target{}, r.Targets()...), append([]string{}, r.Changes()...)}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(s)
			}
			return s.print(c.OutOrStdout())
		},
	}
	a.flags(c, false)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return c
}

func (s repoStatus) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROLE\tVERSION\tEXPIRES\tDAYS\tSIGNED\tKEYS")
	for _, one := range s.Roles {
		expires, days := "-", "-"
		if one.Version > 0 {
			expires, days = one.Expires.Format("2006-01-02 15:04"), fmt.Sprintf("%.1f", one.Days)
		}
		if one.Version > 0 && one.Days < 0 {
			days += ", expired"
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%d of %d\t%s\n", one.Role, one.Version, expires, days, one.Signatures, one.Threshold,
			shortKeys(one.Keys))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, one := range s.Targets {
		fmt.Fprintf(w, "%s  %s\n", one.Target, one.SHA256)
	}
	for _, one := range s.Roles {
		if one.Waiting != nil {
			fmt.Fprintf(w, "waiting: %s %d: %s\n", one.Role, one.Waiting.Version, one.Waiting.Why)
		}
	}
	for _, one := range s.Changes {
		fmt.Fprintf(w, "with that: %s\n", one)
	}
	return nil
}

func shortKeys(ids []string) (all string) {
	for i, id := range ids {
		if i > 0 {
			all += " "
		}
		all += id[:min(8, len(id))]
	}
	return all
}

func newRepoServe() *cobra.Command {
	var a repoArgs
	var listen string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve a repository to devices, until it is stopped",
		Long: `Serve a repository over HTTP, in the foreground. Who asks is not known, and nothing is
encrypted: what devices take is signed. Any other web server may serve the folder as
well, and mirrors of it.`,
		Example: `  limber firmware repo serve --repo ./repo --listen 0.0.0.0:8090`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := needed(c.CommandPath(), "repo", a.dir); err != nil {
				return err
			}
			if _, err := repo.Open(a.dir, nil, time.Now()); err != nil {
				return err
			}
			root, err := os.OpenRoot(a.dir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, root.Close()) }()
			return serveRepo(c, listen, repo.NewHandler(root))
		},
	}
	a.flags(c, false)
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8090", "HOST:PORT to listen on")
	return c
}

func serveRepo(c *cobra.Command, listen string, h http.Handler) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("serve the repository: %w", err)
	}
	fmt.Fprintf(c.OutOrStdout(), "the repository is at http://%s: devices find it with updates.repository\n", l.Addr())
	return blob.Serve(c.Context(), l, h)
}
