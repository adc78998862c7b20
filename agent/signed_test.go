package agent_test

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/blob"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
)

// signedBy makes a repository in which a family is signed, and returns its root and URL.
func signedBy(tb testing.TB, f *family.Family) (root, url string) {
	tb.Helper()
	dir, keys := filepath.Join(tb.TempDir(), "repo"), tb.TempDir()
	for _, role := range repo.Roles() {
		if _, err := repo.GenerateKey(role, filepath.Join(keys, role+".pem")); err != nil {
			tb.Fatal(err)
		}
	}
	ring, err := repo.ReadKeys(keys)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := repo.Init(dir, ring, repo.Setup{}, time.Now())
	if err == nil {
		err = r.AddFamily(f)
	}
	if err == nil {
		_, err = r.Publish()
	}
	if err != nil {
		tb.Fatal(err)
	}
	folder, err := os.OpenRoot(dir)
	if err != nil {
		tb.Fatal(err)
	}
	site := httptest.NewServer(repo.NewHandler(folder))
	tb.Cleanup(func() { site.Close(); folder.Close() })
	return filepath.Join(dir, "metadata", "1.root.json"), site.URL
}

func TestC1_ADeviceThatKnowsWhoMaySignTakesNoFamilyOfOthers(t *testing.T) {
	t.Parallel()
	broker := serve(t)
	yard, blobs := sibling(t, "yard")
	street, more := relative(t, "street", 2)
	all := maps.Clone(blobs)
	maps.Copy(all, more)
	all[yard.Digest()], all[street.Digest()] = yard.Compact(), street.Compact()
	files := httptest.NewServer(blob.NewHandler(all, func(family.Digest) bool { return true }))
	defer files.Close()
	o, cfg := operate(t, broker), newConfig(t, broker)
	root, url := signedBy(t, yard)
	cfg.Updates.RootFile, cfg.Updates.Repository, cfg.Updates.Sources = root, []string{url}, []string{files.URL}
	start(t, cfg, light()).ready()
	o.presence(cfg, wire.Online, 0)
	rest := fmt.Sprintf(`,"sources":[%q],"probation":{"frames":0,"max_missed":0}`, files.URL)
	if ack := o.command(cfg, cfg.Device, wire.VerbFamily, "u1", familyCommand(street, rest)); ack.State != wire.CommandFailed ||
		ack.Reason != wire.Unauthorized {
		t.Errorf("a family that is not signed: got %+v", ack)
	}
	if ack := o.command(cfg, cfg.Device, wire.VerbFamily, "u2", familyCommand(yard, rest)); ack.State != wire.CommandSucceeded {
		t.Errorf("a family that is signed: got %+v", ack)
	}
	o.inUse(cfg, yard)
}
