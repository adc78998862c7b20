package sim_test

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/sim"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
	"github.com/limber-edge/limber/firmware/slot"
)

// depot is a repository of releases that is served.
type depot struct {
	testing.TB
	dir, keys, url string
	manifests      map[string]family.Digest // by version
}

// mustDepot has a release of each version, for the architecture of this machine. Each blob
// comes after a while.
func mustDepot(tb testing.TB, blobs time.Duration, versions ...string) *depot {
	tb.Helper()
	d := &depot{TB: tb, dir: filepath.Join(tb.TempDir(), "repo"), keys: tb.TempDir(), manifests: map[string]family.Digest{}}
	for _, role := range repo.Roles() {
		if _, err := repo.GenerateKey(role, filepath.Join(d.keys, role+".pem")); err != nil {
			tb.Fatal(err)
		}
	}
	ring, err := repo.ReadKeys(d.keys)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := repo.Init(d.dir, ring, repo.Setup{}, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	for _, v := range versions {
		d.add(r, v)
	}
	root, err := os.OpenRoot(d.dir)
	if _, e := r.Publish(); err != nil || e != nil {
		tb.Fatal(errors.Join(err, e))
	}
	all := repo.NewHandler(root)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			<-time.After(blobs)
		}
		all.ServeHTTP(w, r)
	}))
	tb.Cleanup(func() { s.Close(); root.Close() })
	d.url = s.URL
	return d
}

// add adds a release that has next to nothing in it: nobody runs it here.
func (d *depot) add(r *repo.Repository, version string) {
	d.Helper()
	folder := d.TempDir()
	m := &repo.Manifest{Version: version, Arch: runtime.GOARCH, State: repo.TwoWay}
	err := os.WriteFile(filepath.Join(folder, repo.Program), []byte("release "+version), 0o755)
	if err := errors.Join(err, r.Pack(folder, m), r.AddRelease(m)); err != nil {
		d.Fatal(err)
	}
	d.manifests[version] = m.Digest()
}

// idOf is that of the rollout of a version.
func idOf(version string) string { return strings.ReplaceAll(version, ".", "-") }

// release is one as rollouts name it.
func (d *depot) release(version string) *wire.RolloutRelease {
	return &wire.RolloutRelease{Version: version,
		Manifests: []wire.ReleaseFor{{Arch: runtime.GOARCH, Digest: "sha256:" + string(d.manifests[version])}}}
}

// release starts the rollout of one.
func (y *yard) release(d *depot, version string, s wire.RolloutSpec) {
	y.tb.Helper()
	s.Probation, s.Release = nil, d.release(version)
	y.do(wire.RolloutCommand{Action: wire.RolloutStart, Rollout: idOf(version), Spec: &s})
}

// runs waits until a release, and no update, is on all devices but so many.
func (y *yard) runs(version string, but int) {
	y.tb.Helper()
	began, count := time.Now(), 0
	for time.Since(began) < patience {
		count = 0
		for _, d := range y.seen.Registry().Devices() {
			if d.Online() && d.Caps != nil && d.Caps.Update == nil && d.Caps.Release != nil && d.Caps.Release.Version == version {
				count++
			}
		}
		if count == y.devices-but {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	y.tb.Fatalf("release %s runs on %d devices, want all %d but %d", version, count, y.devices, but)
}

// Releases of a fleet that runs old: bad ends at once, deaf reaches no broker.
const old, good, next, bad, deaf = "1.4.0", "1.5.0", "1.5.1", "1.6.0", "1.7.0"

// mustReleases is a fleet that takes releases, and their repository.
func mustReleases(tb testing.TB, n int, trial time.Duration) (*yard, *depot) {
	tb.Helper()
	at := mustBroker(tb)
	mustServe(tb, at)
	return mustReleasesAt(tb, at, n, trial, 0)
}

// mustReleasesAt is one where a controller comes to. It has each blob after a while.
func mustReleasesAt(tb testing.TB, at mqtt.Broker, n int, trial, blobs time.Duration) (*yard, *depot) {
	tb.Helper()
	d := mustDepot(tb, blobs, good, next, bad, deaf)
	cfg := config(tb, n, at)
	cfg.Version, cfg.Profile.FPS = old, 0.2
	cfg.Profile.Releases = []sim.Release{{Version: bad, Fails: slot.Crash}, {Version: deaf, Fails: slot.NoLink}}
	cfg.Releases = sim.Releases{Repository: []string{d.url}, RootFile: filepath.Join(d.dir, "metadata", "1.root.json"), Trial: trial}
	return mustYardOf(tb, at, cfg), d
}

// commanded are the devices that had a command for a release.
func (y *yard) commanded(id string) (names []string) {
	y.tb.Helper()
	r := y.shows(id, func(r wire.Rollout) bool { return len(r.Devices) == y.devices })
	for _, d := range r.Devices {
		if d.Attempt > 0 {
			names = append(names, d.Device)
		}
	}
	return names
}

// wentBack wants the last update of the device to be one that failed with a reason, and
// the release before to run.
func (y *yard) wentBack(name, version string, why ...string) {
	y.tb.Helper()
	d := y.seen.Registry().Device(name)
	u := d.Caps.LastUpdate
	if u == nil || u.Release == nil || u.Release.Version != version || !u.RolledBack || u.State != wire.CommandFailed {
		y.tb.Fatalf("%s: got %+v; want that it went back from %s", name, u, version)
	}
	for _, text := range why {
		if !strings.Contains(u.Detail, text) {
			y.tb.Errorf("%s: got %q; want %q", name, u.Detail, text)
		}
	}
}

// releasesRolledOut is what happens to a bad release and to a good one in a fleet.
func releasesRolledOut(t *testing.T, n int) {
	y, d := mustReleases(t, n, time.Minute)
	y.runs(old, 0)
	y.release(d, bad, spec(nil))
	r := y.becomes(idOf(bad), wire.RolloutFailed, "success")
	if c := r.Phases[0].Counts; c.Failed != 1 || r.Phases[1].Counts.Cancelled+r.Phases[2].Counts.Cancelled != n-1 {
		t.Errorf("got %+v; want that one failed, and no other began", r.Phases)
	}
	canary := y.commanded(idOf(bad))
	if len(canary) != 1 {
		t.Errorf("%v were commanded; want one of %d", canary, n)
	}
	y.runs(old, 0)
	y.wentBack(canary[0], bad, "crash", "panic: simulated, in release "+bad)

	y.release(d, good, spec(func(s *wire.RolloutSpec) { s.Gates[0].Limit = "1" }))
	r = y.becomes(idOf(good), wire.RolloutDone, "")
	for i, p := range r.Phases {
		if p.State != wire.PhasePassed || p.Counts.Succeeded != p.Size {
			t.Errorf("phase %d: got %+v; want that all %d succeeded", i+1, p, p.Size)
		}
	}
	y.runs(good, 0)
}

func TestABadReleaseStopsAtTheCanaryAndAGoodOneReachesAll(t *testing.T) {
	t.Parallel()
	releasesRolledOut(t, 10)
}

// TestAReleaseFailsItsTrialWithTheReasonThatItIsToldTo is of those that do not take the time
// of a trial.
func TestAReleaseFailsItsTrialWithTheReasonThatItIsToldTo(t *testing.T) {
	t.Parallel()
	at := mustBroker(t)
	mustServe(t, at)
	reasons := map[string]slot.Reason{"2.0.1": slot.Hang, "2.0.2": slot.Canary, "2.0.3": slot.Inference, "2.0.4": slot.State}
	d := mustDepot(t, 0, slices.Collect(maps.Keys(reasons))...)
	cfg := config(t, 1, at)
	cfg.Version, cfg.Profile.FPS = old, 0
	for version, reason := range reasons {
		if err := cfg.Profile.Fail(version, string(reason)); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Releases = sim.Releases{Repository: []string{d.url}, RootFile: filepath.Join(d.dir, "metadata", "1.root.json")}
	y := mustYardOf(t, at, cfg)
	for version, reason := range reasons {
		y.release(d, version, spec(nil))
		y.becomes(idOf(version), wire.RolloutFailed, "success")
		y.runs(old, 0)
		y.wentBack(sim.Name(0), version, string(reason))
	}
}

func TestAReleaseWithoutALinkGoesBackOnEachDevice(t *testing.T) {
	t.Parallel()
	const n = 3
	y, d := mustReleases(t, n, 10*time.Second)
	y.release(d, deaf, spec(func(s *wire.RolloutSpec) { s.Phases = []string{"100%"} }))
	r := y.becomes(idOf(deaf), wire.RolloutFailed, "success")
	if c := r.Phases[0].Counts; c.Failed != n {
		t.Errorf("got %+v; want that all %d failed", c, n)
	}
	y.runs(old, 0)
	for _, of := range y.commanded(idOf(deaf)) {
		y.wentBack(of, deaf, "no_link")
	}
}

// TestARolloutOfAReleaseThatIsTakenBackEndsWithTheReleaseBefore is of two, of which the
// first has nothing but the program of the package to go back to.
func TestARolloutOfAReleaseThatIsTakenBackEndsWithTheReleaseBefore(t *testing.T) {
	t.Parallel()
	const n = 3
	y, d := mustReleases(t, n, time.Minute)
	watched := spec(func(s *wire.RolloutSpec) { s.Phases, s.SoakMS = []string{"100%"}, new(3_600_000.0) })
	for i, version := range []string{good, next} {
		y.release(d, version, watched)
		y.shows(idOf(version), func(r wire.Rollout) bool { return r.Phases[0].Counts.Succeeded == n })
		y.do(wire.RolloutCommand{Action: wire.RolloutAbort, Rollout: idOf(version), Rollback: true})
		r := y.becomes(idOf(version), wire.RolloutAborted, "")
		if c := r.Phases[0].Counts; c.RolledBack != i*n || c.Succeeded != (1-i)*n {
			t.Errorf("%s: got %+v", version, c)
		}
		y.runs(good, 0)
		if said := r.Devices[0].Detail; i == 0 && !strings.Contains(said, "program of its package") {
			t.Errorf("got %q; want why it stays", said)
		}
	}
}
