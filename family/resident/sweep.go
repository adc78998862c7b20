package resident

import (
	"os"
	"path/filepath"
	"strings"
)

// sweep removes the cache files of earlier families, runtimes and CPUs. It
// waits until every member of this family has a file: until then the device may
// have to go back, and would build anew what was removed. A file that cannot be
// removed only takes room, so it is left to the next start.
func (s *Shelf) sweep() {
	s.files.Lock()
	defer s.files.Unlock()
	if s.swept {
		return
	}
	found, err := os.ReadDir(s.cache)
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
	for _, stale := range files {
		for _, name := range stale {
			os.Remove(filepath.Join(s.cache, name))
		}
	}
	s.swept = true
}

// cacheKey is the key in the name of a cache file. What a crash left half
// written has one of its own, so it is no member's; false if no Shelf made the
// file.
func cacheKey(name string) (key string, ok bool) {
	if strings.HasSuffix(name, ".part") {
		return name, true
	}
	key, rest, ok := strings.Cut(name, "-")
	return key, ok && strings.HasSuffix(rest, ".onnx")
}
