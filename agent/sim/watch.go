package sim

import (
	"context"
	"os"
	"strings"

	"github.com/limber-edge/limber/agent/fleet"
)

// Seen is what an operator knows of a fleet.
type Seen struct {
	Births int // of agents, each with a boot id of its own
	Online int // devices
}

// Watch counts what the picture of a fleet shows of simulated devices, and tells of each
// change of that until ctx ends, which is its only error, or told is false. Two births of
// a device may be seen as one where whoever is told takes longer than the device is away.
func Watch(ctx context.Context, r *fleet.Registry, told func(Seen) bool) error {
	s := r.Subscribe()
	defer s.Close()
	var seen Seen
	boots, online := map[string]string{}, map[string]bool{}
	for {
		d, err := s.Next(ctx)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(d.Name, prefix) {
			continue // a real one, at the same broker
		}
		before := seen
		if d.Online() && boots[d.Name] != d.State.BootID {
			boots[d.Name] = d.State.BootID
			seen.Births++
		}
		switch {
		case d.Online() && !online[d.Name]:
			seen.Online++
		case !d.Online() && online[d.Name]:
			seen.Online--
		}
		online[d.Name] = d.Online()
		if seen != before && !told(seen) {
			return nil
		}
	}
}

// StateFolder is where folders are made that are in memory, or else where the system has
// its temporary ones.
func StateFolder() string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err == nil && info.IsDir() {
		return shared
	}
	return os.TempDir()
}
