package family_test

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/family"
)

func TestBlobsInMemoryAreFoundByTheirDigest(t *testing.T) {
	m := family.MemoryBlobs{}
	d := m.Add([]byte("blob"))
	if got, err := m.Blob(d); err != nil || string(got) != "blob" || d != family.DigestOf([]byte("blob")) {
		t.Errorf("got %q under %s, %v", got, d, err)
	}
	other := family.DigestOf(nil)
	if _, err := m.Blob(other); err == nil || !strings.Contains(err.Error(), other.Short()) {
		t.Errorf("got %v, want which blob is missing", err)
	}
}
