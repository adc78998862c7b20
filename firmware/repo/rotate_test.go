package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// seen are devices that came at different times, and those that were off since.
type seen []*device

// take wants each to take a release.
func (s seen) take(version string) {
	for _, v := range s {
		v.takes(version)
		v.restart()
		v.takes(version)
	}
}

func TestC13_OldNewAndOverlappingKeysOfEachRole(t *testing.T) {
	t.Parallel()
	for _, role := range Roles() {
		t.Run(role, func(t *testing.T) {
			d := newDesk(t)
			d.release("1.0.0")
			first, absent := d.device(), d.device()
			first.takes("1.0.0")
			a := d.idsOf(d.ring(), role)
			d.edit(func(r *Repository) error { return r.Rotate(Rotation{Role: role, Add: []Key{d.key(role, "b")}}) })
			seen{first, absent, d.device()}.take("1.0.0")
			for _, lost := range []string{role + "-a", role + "-b"} { // either will do
				r := d.open(lost)
				if err := r.Renew(role); err != nil {
					t.Fatal(err)
				}
				d.publish(r)
				seen{first}.take("1.0.0")
			}
			d.edit(func(r *Repository) error { return r.Rotate(Rotation{Role: role, Remove: a}) })
			late := d.device()
			seen{first, absent, late, d.device()}.take("1.0.0")
			d.now = d.now.Add(dayLong)
			r := d.open(role + "-b") // the one before alone
			if err := r.Renew(role); err != nil {
				t.Fatal(err)
			}
			done, err := r.Publish()
			if err != nil || slices.Contains(done.Visible, role) ||
				!slices.ContainsFunc(done.Waiting, func(w Waiting) bool { return w.Role == role }) {
				t.Errorf("with the key that was removed: %+v, %v", done, err)
			}
			seen{first, absent, late}.take("1.0.0")
			d.publish(d.open())
			d.release("1.0.1")
			seen{first, absent, late, d.device()}.take("1.0.1")
		})
	}
}

func TestC13_ALostKeyIsReplacedAsLongAsThoseAboveAreThere(t *testing.T) {
	t.Parallel()
	for role, above := range map[Role]Role{Timestamp: Root, Snapshot: Root, Targets: Root, Releases: Targets, Families: Targets} {
		t.Run(role, func(t *testing.T) {
			d := newDesk(t)
			d.release("1.0.0")
			v := d.device()
			v.takes("1.0.0")
			gone := d.idsOf(d.ring(), role)
			r := d.open(role + "-a")
			if err := r.Rotate(Rotation{Role: role, Add: []Key{d.key(role, "b")}, Remove: gone}); err != nil {
				t.Fatal(err)
			}
			d.publish(r)
			v.takes("1.0.0")
			// And where the one above is lost too, nobody else may say who signs.
			r = d.open(above + "-a")
			if err := r.Rotate(Rotation{Role: role, Add: []Key{d.key(role, "c")}}); err != nil {
				t.Fatal(err)
			}
			done, err := r.Publish()
			if err != nil || slices.Contains(done.Visible, above) || len(done.Waiting) != 1 || done.Waiting[0].Role != above {
				t.Errorf("without %s: %+v, %v; want it to wait", above, done, err)
			}
			v.takes("1.0.0")
		})
	}
}

// theOne is one key.
func (d *desk) theOne(name string) (keys []Key) {
	for _, k := range d.ring() {
		if filepath.Base(k.File) == name+".pem" {
			return []Key{k}
		}
	}
	d.Fatalf("there is no key %s", name)
	return nil
}

func TestC13_AThresholdOfRootIsEnoughWhoeverIsLost(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	v.takes("1.0.0")
	b, c := d.key(Root, "b"), d.key(Root, "c")
	d.edit(func(r *Repository) error { return r.Rotate(Rotation{Role: Root, Add: []Key{b, c}, Threshold: 2}) })
	v.takes("1.0.0")
	for _, lost := range []string{"a", "b", "c"} { // one of three
		d.now = d.now.Add(time.Hour)
		r := d.open("root-" + lost)
		if err := r.Renew(Root); err != nil {
			t.Fatal(err)
		}
		d.publish(r)
		v.takes("1.0.0")
	}
	// Two of three: it waits, and devices see nothing of it.
	r := d.open("root-a", "root-b")
	if err := r.Rotate(Rotation{Role: Root, Remove: []string{b.ID}, Add: []Key{d.key(Root, "d")}}); err != nil {
		t.Fatal(err)
	}
	done, err := r.Publish()
	if err != nil || len(done.Visible) > 0 || !strings.Contains(done.Waiting[0].Why, "1 of 2 signatures") {
		t.Errorf("two of three lost: %+v, %v", done, err)
	}
	v.takes("1.0.0")
	// The second holder signs elsewhere, with nothing but a copy of the folder.
	r = d.open("root-b", "root-c", "root-d")
	if _, err := r.Publish(); err != nil {
		t.Fatal(err)
	}
	if waiting := d.open().Waiting(); len(waiting) > 0 {
		t.Errorf("got %+v, want all signed", waiting)
	}
	v.takes("1.0.0")
	d.device().takes("1.0.0")
}

func TestC13_ARoleIsNeverLeftWithTooFewKeys(t *testing.T) {
	d := newDesk(t)
	for _, role := range Roles() {
		ids := d.idsOf(d.ring(), role)
		for what, rotation := range map[string]Rotation{
			"the last one removed": {Role: role, Remove: ids},
			"two of one":           {Role: role, Threshold: 2},
			"fewer than none":      {Role: role, Threshold: -1},
			"one that is not":      {Role: role, Remove: []string{"0123456789"}},
			"all that begin so":    {Role: role, Remove: []string{""}},
			"one that is there":    {Role: role, Add: d.theOne(role + "-a")},
		} {
			if err := d.open().Rotate(rotation); err == nil {
				t.Errorf("%s, %s: nobody complained", role, what)
			}
		}
	}
	if err := d.open().Rotate(Rotation{Role: Releases, Add: d.theOne("families-a")}); err == nil ||
		!strings.Contains(err.Error(), "may not sign for releases") {
		t.Errorf("who trains would ship: got %v", err)
	}
	if err := d.open().Rotate(Rotation{Role: "mirrors"}); err == nil {
		t.Error("a role that there is not: nobody complained")
	}
}

func TestC13_RootsAreFollowedInTurnFromTheOneThatWasGiven(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.release("1.0.0")
	v := d.device()
	for i := range 12 {
		d.edit(func(r *Repository) error {
			return r.Rotate(Rotation{Role: Root, Add: []Key{d.key(Root, fmt.Sprint("n", i))}, Remove: r.rootIDs()})
		})
	}
	v.takes("1.0.0")
	d.names()
	v.restart()
	v.takes("1.0.0")
	for _, name := range d.names() {
		if strings.HasSuffix(name, "root.json") && name != "metadata/14.root.json" {
			t.Errorf("it asked for %s again", name)
		}
	}
	// One that is spoilt on the disk is fetched again.
	if err := os.WriteFile(filepath.Join(v.dir, "root", "5.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	v.restart()
	v.takes("1.0.0")
	v.keeps("1.0.0")
	// A device that is given a later one starts from there.
	w := d.device()
	w.restart()
	cfg := w.cfg
	cfg.Root = d.file("metadata/9.root.json")
	var err error
	if w.Client, err = NewClient(cfg, w.deps, discard()); err != nil {
		t.Fatal(err)
	}
	w.takes("1.0.0")
}

// rootIDs are the keys of the visible root.
func (r *Repository) rootIDs() []string {
	ids, _ := r.published.signers(Root)
	return ids
}

// Whoever has the keys before does it, and who has the new one comes later.
func TestC13_ARotationIsFinishedByWhoeverComesNext(t *testing.T) {
	t.Parallel()
	for _, role := range []Role{Targets, Releases, Families, Snapshot, Timestamp} {
		for _, again := range []bool{false, true} {
			d := newDesk(t)
			d.release("1.0.0")
			v := d.device()
			v.takes("1.0.0")
			r := d.open()
			if err := r.Rotate(Rotation{Role: role, Add: []Key{public(d.key(role, "b"))},
				Remove: d.idsOf(d.ring(role+"-b"), role)}); err != nil {
				t.Fatal(err)
			}
			done, err := r.Publish()
			if err != nil || len(done.Visible) > 0 || len(done.Waiting) < 2 {
				t.Errorf("%s: %+v, %v; want nothing to be visible, and two to wait", role, done, err)
			}
			if again { // who had the key before signs what comes by
				if _, err := d.open(role + "-b").Publish(); err != nil {
					t.Fatal(err)
				}
			}
			v.takes("1.0.0")
			if _, err := d.open(allBut(d, role+"-b")...).Publish(); err != nil { // the new one alone
				t.Fatal(err)
			}
			d.publish(d.open(role + "-a"))
			if ids, _ := d.published().signers(role); len(ids) != 1 || ids[0] != d.theOne(role + "-b")[0].ID {
				t.Errorf("%s: %q sign", role, ids)
			}
			seen{v, d.device()}.take("1.0.0")
		}
	}
}

// public is the half of a key that does not sign.
func public(k Key) Key {
	k.signer = nil
	return k
}

// allBut are the names of all keys but one.
func allBut(d *desk, but string) (names []string) {
	for _, k := range d.ring() {
		if name := strings.TrimSuffix(filepath.Base(k.File), ".pem"); name != but {
			names = append(names, name)
		}
	}
	return names
}
