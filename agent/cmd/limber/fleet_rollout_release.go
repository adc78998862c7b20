package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
)

// rolloutRelease are the flags that say which release is rolled out.
type rolloutRelease struct {
	version           string
	dir               string   // a repository on this machine
	urls              []string // or one that is served
	rootFile          string   // which it is trusted by
	downgrade, oneWay bool
}

func (a *rolloutRelease) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.version, "release", "", "version of a release of the program, such as 1.5.0")
	f.StringVar(&a.dir, "repo", "", "folder of the repository that has the release; devices take it from their own")
	f.StringSliceVar(&a.urls, "repository", nil, "or URL of it and of its mirrors, from which devices take it as well")
	f.StringVar(&a.rootFile, "root-file", "", "metadata/1.root.json of the repository at --repository")
	f.BoolVar(&a.downgrade, "downgrade", false, "also where the release is older than the one that runs")
	f.BoolVar(&a.oneWay, "one-way", false, "also where the release before cannot read the state that it leaves")
}

// check judges the flags.
func (a *rolloutRelease) check() error {
	others := a.dir != "" || a.urls != nil || a.rootFile != "" || a.downgrade || a.oneWay
	switch {
	case a.version == "" && others:
		return usagef("--repo, --repository, --root-file, --downgrade and --one-way are of a --release")
	case a.version == "":
		return nil
	case !repo.ValidVersion(a.version):
		return usagef("--release %q is no version such as 1.5.0", a.version)
	case (a.dir == "") == (a.urls == nil):
		return usagef("--release wants the repository that has it: --repo DIR, or --repository URL with --root-file F")
	case (a.rootFile == "") != (a.urls == nil):
		return usagef("--repository and --root-file: one wants the other")
	}
	return nil
}

// spec names the manifest of the release for each architecture.
func (a *rolloutRelease) spec(ctx context.Context) (*wire.RolloutRelease, error) {
	manifests, err := a.manifests(ctx)
	if err != nil {
		return nil, fmt.Errorf("release %s: %w", a.version, err)
	}
	r := &wire.RolloutRelease{Version: a.version, Downgrade: a.downgrade, OneWay: a.oneWay}
	for _, arch := range slices.Sorted(maps.Keys(manifests)) {
		r.Manifests = append(r.Manifests, wire.ReleaseFor{Arch: arch, Digest: "sha256:" + string(manifests[arch])})
	}
	return r, nil
}

func (a *rolloutRelease) manifests(ctx context.Context) (map[string]family.Digest, error) {
	if a.dir == "" {
		return a.served(ctx)
	}
	r, err := repo.Open(a.dir, nil, time.Now())
	if err != nil {
		return nil, err
	}
	all := r.Manifests(a.version)
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has none that devices may take: `limber firmware repo add` adds it, and `limber firmware "+
			"repo status` says what lacks signatures", a.dir)
	}
	return all, nil
}

// repositoryTime is how long it may take until a repository has answered.
const repositoryTime = 30 * time.Second

// served asks the repository as a device does that has nothing of it yet.
func (a *rolloutRelease) served(ctx context.Context) (all map[string]family.Digest, err error) {
	root, err := repo.ReadRoot(a.rootFile)
	if err != nil {
		return nil, err
	}
	allowed, err := blob.ParseAllowed(a.urls)
	if err != nil {
		return nil, usageError{fmt.Errorf("--repository: %w", err)}
	}
	dir, err := os.MkdirTemp("", "limber-repository-")
	if err != nil {
		return nil, err
	}
	defer func() { err = cmp.Or(err, os.RemoveAll(dir)) }()
	log := slog.New(slog.DiscardHandler) // errors say it all
	client, err := repo.NewClient(
		repo.Config{Dir: dir, Root: root, Sources: a.urls, Built: uplink.BuiltAt()},
		repo.Deps{Getter: blob.New(blob.Config{Allowed: allowed}, nil, log), Clock: time.Now,
			Confirmed: func() time.Time { return time.Time{} }}, log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, repositoryTime)
	defer cancel()
	return client.Manifests(ctx, a.version)
}
