package dash

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// The times of a stream.
const (
	pace = 250 * time.Millisecond // between two messages, at least
	beat = 15 * time.Second       // after which one that has nothing to tell shows that it is there
)

// events answers with a stream of what is on a screen.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, errCrowded)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep back what a screen waits for
	if r.Method != http.MethodHead {
		st := s.stream(q)
		defer st.close()
		st.tell(r.Context(), w)
	}
}

// tell writes what there is to tell, until ctx ends or nobody reads any more.
func (st *stream) tell(ctx context.Context, w http.ResponseWriter) {
	out := http.NewResponseController(w)
	for spoke := time.Now(); ; {
		line := st.news()
		if line == nil && time.Since(spoke) >= beat {
			line = []byte(":\n\n")
		}
		if line != nil {
			spoke = time.Now()
			if _, err := w.Write(line); err != nil || out.Flush() != nil {
				return
			}
		}
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			return
		}
	}
}

// stream is what a screen shows, and was told. It is for one goroutine.
type stream struct {
	*Server
	ask     query
	ranking *fleet.Ranking
	told    told
	first   bool              // nothing was told
	tiles   map[string]uint64 // of the window, the change that was told last
	points  uint64            // of the device
	events  uint64            // of the device
	// of the device, whose decisions were told
	measured *wire.Telemetry
	heard    uint64          // of the controller
	rows     map[string]bool // devices of the rollout in the window
}

func (s *Server) stream(q query) *stream {
	return &stream{Server: s, ask: q, ranking: s.remote.Registry().Ranking(q.where), told: told{}, first: true}
}

func (st *stream) close() { st.ranking.Close() }

// news is what changed, as a stream of events has it; nil for nothing.
func (st *stream) news() []byte {
	m := message{First: st.first, Link: st.linkNews(), Steer: st.steerNews()}
	if st.first {
		m.Fleet = st.cfg.Fleet
	}
	st.fleetNews(&m)
	m.Device, m.Rollouts, m.Rollout = st.deviceNews(), nil, nil
	if heard := st.remote.Heard(); st.first || heard != st.heard {
		st.heard = heard
		m.Rollouts, m.Rollout = st.rolloutsNews(), st.rolloutNews()
	}
	st.first = false
	b, err := json.Marshal(m)
	if err != nil || string(b) == "{}" { // all of it was JSON before
		return nil
	}
	return slices.Concat([]byte("data: "), b, []byte("\n\n"))
}

func (st *stream) linkNews() *link {
	is := st.link.now()
	is.Broker = st.remote.Broker()
	return fresh(st.told, "link", is)
}

func (st *stream) steerNews() steer {
	is := steerToken
	if st.cfg.Token == "" {
		is = steerNone
	} else if at := st.denied.Load(); at != nil && time.Since(*at) < denialTime {
		is = steerDenied
	}
	if fresh(st.told, "steer", is) == nil {
		return ""
	}
	return is
}

// told is what was told last under a name: the SHA-256 of its JSON.
type told map[string][sha256.Size]byte

// fresh is a value that is other than the one that was told last; nil for the same.
func fresh[T any](t told, name string, v T) *T {
	b, err := json.Marshal(v)
	is := sha256.Sum256(b)
	if was, ok := t[name]; err != nil || ok && was == is {
		return nil
	}
	t[name] = is
	return &v
}
