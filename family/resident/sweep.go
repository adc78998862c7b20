package resident

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/limber-edge/limber/family"
)

// sweep removes the cache folders of earlier families, runtimes and CPUs. It
// waits until every member of this family has one: until then the device may
// have to go back, and would build anew what was removed. One that cannot be
// removed only takes room, so it is left to the next start.
func (s *Shelf) sweep() {
	s.cache.Lock()
	defer s.cache.Unlock()
	if s.swept {
		return
	}
	found, err := os.ReadDir(s.cache.path)
	if err != nil {
		return
	}
	files := map[string][]string{} // by key
	for _, f := range found {
		if key, ok := cacheKey(f.Name()); ok {
			files[key] = append(files[key], f.Name())
		}
	}
	for i := range s.fam.Members {
		key, err := s.key(&s.fam.Members[i])
		if err != nil || len(files[key]) == 0 {
			return
		}
		delete(files, key)
	}
	for _, f := range s.cache.kept {
		for i := range f.Members {
			if key, err := s.keyOf(f, &f.Members[i]); err == nil {
				delete(files, key)
			}
		}
	}
	for _, stale := range files {
		for _, name := range stale {
			os.RemoveAll(filepath.Join(s.cache.path, name))
		}
	}
	s.swept = true
}

// cacheKey is the key in the name of a cache folder. What a crash left half
// written has one of its own, so it is no member's; false if no Shelf made it.
// Earlier programs kept files whose names end in .onnx.
func cacheKey(name string) (key string, ok bool) {
	if strings.HasSuffix(name, ".part") {
		return name, true
	}
	key, rest, ok := strings.Cut(name, "-")
	return key, ok && family.Digest(strings.TrimSuffix(rest, ".onnx")).Valid()
}
