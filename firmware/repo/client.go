package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/family"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// Config describes a Client.
type Config struct {
	Dir     string    // of what it keeps; made when it is needed
	Root    []byte    // the root that is trusted from the start
	Sources []string  // URLs of the repository and its mirrors, tried in turn
	Built   time.Time // when the program was; it cannot be earlier
}

// Getter reads a small file of a mirror. A blob.Fetcher is one.
type Getter interface {
	// Document returns the file of a name below a source, of at most so many bytes. It
	// gives up one that is too slow to come. Its error is fs.ErrNotExist where the source
	// says that it has none; any other lets the next source be asked.
	Document(ctx context.Context, source, name string, most int64) ([]byte, error)
}

// Deps are what a Client works with.
type Deps struct {
	Getter    Getter
	Clock     func() time.Time // of the system: time.Now, but in a test
	Confirmed func() time.Time // now, as an operator said; zero where none did
}

// Client is what a device trusts of a repository. Its methods may be called from any
// goroutine; one at a time works.
type Client struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	turn chan struct{} // taken by who works
}

// NewClient assembles a Client, and checks the root that it is given. It starts nothing.
func NewClient(cfg Config, deps Deps, log *slog.Logger) (*Client, error) {
	c := &Client{cfg: cfg, deps: deps, log: log, turn: make(chan struct{}, 1)}
	if _, err := c.begin(time.Time{}); err != nil {
		return nil, err
	}
	return c, nil
}

// begin trusts the root that was given.
func (c *Client) begin(now time.Time) (*trustedmetadata.TrustedMetadata, error) {
	t, err := trust(c.cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("root of updates: %w", err)
	}
	t.RefTime = now
	return t, nil
}

// trust reads a root that is signed by those whom it names.
func trust(root []byte) (*trustedmetadata.TrustedMetadata, error) {
	if _, err := parse[metadata.RootType](root); err != nil {
		return nil, err
	}
	return trustedmetadata.New(root)
}

// ReadRoot reads the root that a device is to trust, from a file.
func ReadRoot(file string) ([]byte, error) {
	b, err := readFile(file, maxRoot)
	if err != nil {
		return nil, err
	}
	if _, err := trust(b); err != nil {
		return nil, fmt.Errorf("%s is not the root of a repository: %w; `limber firmware repo init` makes it, as "+
			"metadata/1.root.json", file, err)
	}
	return b, nil
}

// Refresh brings what is kept up to date. Its errors are ctx's, those of the disk, and
// of every source why it could not serve: ErrRefused if none of them was beyond reach, or
// behind what is kept.
func (c *Client) Refresh(ctx context.Context) error {
	return c.refresh(ctx, func(*trustedmetadata.TrustedMetadata) error { return nil })
}

// refresh asks one source after the other, until what is trusted then is judged well: a
// mirror may be behind another one.
func (c *Client) refresh(ctx context.Context, judge func(*trustedmetadata.TrustedMetadata) error) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.release()
	now, err := c.now()
	if err != nil {
		return err
	}
	var tries tries
	for _, s := range c.cfg.Sources {
		w := walk{client: c, now: now, get: func(name string, most int64) ([]byte, error) {
			return c.deps.Getter.Document(ctx, s, name, most)
		}}
		err := w.all()
		if err == nil {
			tries.judged, err = true, judge(w.trusted)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case isFatal(err):
			return err
		}
		tries.errs = append(tries.errs, fmt.Errorf("%s: %w", s, err))
	}
	return tries.err()
}

// errBehind says that a source has what was current before what is kept. That is no forgery:
// a mirror may not have been brought up to date.
var errBehind = errors.New("it is behind what is kept")

// tries are sources that could not serve.
type tries struct {
	errs   []error
	judged bool // what is newest was, of one of them
}

// err is why, and ErrRefused unless one of them may mend it: one that is back, or, where none
// has what is newest, one that is not behind any more.
func (t *tries) err() error {
	err := errors.Join(t.errs...)
	may := func(err error) bool {
		return !errors.Is(err, ErrRefused) && !(t.judged && errors.Is(err, errBehind))
	}
	if errors.Is(err, ErrRefused) && slices.ContainsFunc(t.errs, may) {
		return errors.New(err.Error())
	}
	return err
}

// take waits for the turn to work.
func (c *Client) take(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) release() { <-c.turn }

func isFatal(err error) bool {
	_, ok := errors.AsType[fatal](err)
	return ok
}

// kept returns what is trusted of what is on the disk, by the time it is now.
func (c *Client) kept(ctx context.Context) (*trustedmetadata.TrustedMetadata, error) {
	if err := c.take(ctx); err != nil {
		return nil, err
	}
	defer c.release()
	now, err := c.now()
	if err != nil {
		return nil, err
	}
	w := walk{client: c, now: now}
	err = w.all()
	return w.trusted, err
}

// The pauses while no source can be reached.
const (
	pauseFirst = time.Second
	pauseMost  = 30 * time.Second
)

// May returns nil if a family is signed. Without any source that is within reach and not
// behind, what was signed before counts, as long as it has not expired; else it waits for one
// until ctx ends.
// Its other errors are ErrRefused, and those of the disk.
func (c *Client) May(ctx context.Context, d family.Digest) error {
	return c.find(ctx, func(t *trustedmetadata.TrustedMetadata) error {
		if signed(t, familyTarget(d), d) {
			return nil
		}
		return refuse("family %s is not signed, or was withdrawn: `limber firmware repo add --family` adds it", d.Short())
	})
}

// Signed returns nil if a manifest of a digest is signed as that of a version, for
// whatever architecture. It waits, and has errors, as May does.
func (c *Client) Signed(ctx context.Context, version string, d family.Digest) error {
	if !ValidVersion(version) {
		return refuse("release %.80q is no version", version)
	}
	return c.find(ctx, func(t *trustedmetadata.TrustedMetadata) error {
		for _, of := range manifests(t, version) {
			if of == d {
				return nil
			}
		}
		return refuse("release %s with manifest %s is not signed, or was withdrawn", version, d.Short())
	})
}

// Manifests are the digests of those that are signed for a version, by architecture. It
// asks each source once; its errors are those of Refresh.
func (c *Client) Manifests(ctx context.Context, version string) (all map[string]family.Digest, err error) {
	err = c.refresh(ctx, func(t *trustedmetadata.TrustedMetadata) error {
		if all = manifests(t, version); len(all) == 0 {
			return refuse("release %s is not signed, or was withdrawn", version)
		}
		return nil
	})
	return all, err
}

// manifests are the digests of those that are signed for a version, by architecture.
func manifests(t *trustedmetadata.TrustedMetadata, version string) map[string]family.Digest {
	all := map[string]family.Digest{}
	for _, m := range t.Targets {
		for name, of := range m.Signed.Targets {
			d := family.Digest(hex.EncodeToString(of.Hashes["sha256"]))
			if arch, ok := archOf(name, version); ok && signed(t, name, d) {
				all[arch] = d
			}
		}
	}
	return all
}

// archOf is the architecture of the target of a version; false for another target.
func archOf(target, version string) (string, bool) {
	arch, ok := strings.CutSuffix(path.Base(target), ".json")
	return arch, ok && target == releaseTarget(version, arch)
}

// find judges what is signed, waiting for a source if need be.
func (c *Client) find(ctx context.Context, judge func(*trustedmetadata.TrustedMetadata) error) error {
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		err := c.refresh(ctx, judge)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrRefused) || isFatal(err) {
			return err
		}
		if kept, e := c.kept(ctx); e == nil && judge(kept) == nil {
			return nil
		}
		c.log.Warn("repository out of reach or behind", "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// signed looks for a target as TUF does: with targets first, then with the roles to which
// these delegate its name, in their order. The first that has it decides.
func signed(t *trustedmetadata.TrustedMetadata, name string, d family.Digest) bool {
	roles := []metadata.RoleResult{{Name: Targets}}
	if by := t.Targets[Targets].Signed.Delegations; by != nil {
		roles = append(roles, by.GetRolesForTarget(name)...)
	}
	for _, r := range roles {
		m := t.Targets[r.Name]
		if m == nil {
			continue // a role that devices know nothing of
		}
		if found := m.Signed.Targets[name]; found != nil {
			return hex.EncodeToString(found.Hashes["sha256"]) == string(d)
		}
		if r.Terminating {
			break
		}
	}
	return false
}

// local reads a file that is kept; nil where there is none that can be read.
func (c *Client) local(name string, most int64) []byte {
	b, err := readFile(filepath.Join(c.cfg.Dir, name), most)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("metadata of updates is lost", "err", err)
		}
		return nil
	}
	return b
}
