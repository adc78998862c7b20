package mqtt

import (
	"os"
	"testing"
)

func TestAFileStoreKeepsAFileAMessageUntilItIsDeleted(t *testing.T) {
	dir := t.TempDir()
	s := OpenFileStore(dir)
	defer s.Close()
	files := func() int {
		t.Helper()
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for id := range uint16(3) {
		s.Put(id+1, Message{Topic: "t", Payload: []byte("payload"), QoS: 1})
	}
	if got := files(); got != 3 {
		t.Errorf("%d files for three messages", got)
	}
	s.Delete(2)
	if got := files(); got != 2 {
		t.Errorf("%d files after one was acknowledged, want 2", got)
	}
}
