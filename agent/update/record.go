package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

// The cells of updates; empty or absent where there is nothing.
const (
	cellUpdate  = "update"         // a record, of the one under way
	cellLast    = "update-last"    // a wire.LastUpdate
	cellRefused = "update-refused" // failures
)

// record is an update under way.
type record struct {
	ID      string           `json:"id"`      // of the command
	Payload []byte           `json:"payload"` // of the command, as it came
	Family  wire.Family      `json:"family"`
	Phase   wire.UpdatePhase `json:"phase"`
	// Compared is what came of comparing the family with the one in use; as it is recorded,
	// that is done.
	Compared *wire.Agreement `json:"compared,omitempty"`
	Expires  time.Time       `json:"expires"` // of the command, by the clock here
	// Starts counts those of the agent while its family was compared, activated or on trial, less its
	// orderly ends: how often it was cut off.
	Starts int  `json:"starts,omitempty"`
	End    *end `json:"end,omitempty"` // how it ends, once it is to go back
}

// end is how an update ends that does not succeed.
type end struct {
	State  wire.Step   `json:"state"`
	Reason wire.Reason `json:"reason,omitempty"`
	Detail string      `json:"detail,omitempty"`
	Blame  bool        `json:"blame,omitempty"`  // the family is refused from now on
	Proved bool        `json:"proved,omitempty"` // it is in use: what it failed in before counts no more
}

// failure is a family that failed here.
type failure struct {
	Digest family.Digest `json:"digest"`
	Why    string        `json:"why"`
}

// failuresMost is how many are remembered.
const failuresMost = 64

// errNone says that no update is under way.
var errNone = errors.New("no update is under way")

func digestOf(f wire.Family) family.Digest {
	return family.Digest(strings.TrimPrefix(f.Digest, "sha256:"))
}

// load reads the update under way. The error is errNone, or that it cannot be read.
func load(st *store.Store) (*record, error) {
	b, err := st.Cell(cellUpdate)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(b) == 0 {
		return nil, errNone
	} else if err != nil {
		return nil, err
	}
	return parseRecord(b)
}

func parseRecord(b []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("the update under way: %w", err)
	}
	if !wire.ValidName(r.ID) || !digestOf(r.Family).Valid() {
		return nil, errors.New("the update under way: it names no command, or no family")
	}
	return &r, nil
}

// onTrial tells whether its members are at work: what they do may end the agent.
func (r *record) onTrial() bool {
	return r.Phase == wire.UpdateShadow || r.Phase == wire.UpdateActivating || r.Phase == wire.UpdateProbation
}

func (r *record) save(st *store.Store) error {
	if err := st.SetCell(cellUpdate, encode(r)); err != nil {
		return fmt.Errorf("record the update: %w", err)
	}
	return nil
}

// cells are what remains of an update that ended: nothing is under way, how it ended,
// and which families are refused.
func (r *record) cells(st *store.Store, e end, rolledBack bool, now time.Time) (wire.LastUpdate, []store.Cell) {
	last := wire.LastUpdate{ID: r.ID, Family: r.Family, State: e.State, Reason: e.Reason, Detail: e.Detail,
		Shadow: r.Compared, RolledBack: rolledBack, TS: wire.At(now)}
	cells := []store.Cell{{Name: cellUpdate}, {Name: cellLast, Value: encode(last)}}
	if e.Blame || e.Proved {
		failed := slices.DeleteFunc(failures(st), func(f failure) bool { return f.Digest == digestOf(r.Family) })
		if e.Blame {
			failed = append(failed, failure{digestOf(r.Family), e.Detail})
		}
		cells = append(cells, store.Cell{Name: cellRefused, Value: encode(failed[max(0, len(failed)-failuresMost):])})
	}
	return last, cells
}

// failures are the families that failed here, the last one last.
func failures(st *store.Store) (all []failure) {
	if b, err := st.Cell(cellRefused); err != nil || json.Unmarshal(b, &all) != nil {
		return nil // a family that is tried once more does no harm: it is on trial again
	}
	return all
}

func failedBefore(st *store.Store, d family.Digest) (why string, failed bool) {
	for _, f := range failures(st) {
		if f.Digest == d {
			return f.Why, true
		}
	}
	return "", false
}

func encode[T record | *record | wire.LastUpdate | wire.Ack | []failure](v T) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("update: a document cannot be encoded: " + err.Error())
	}
	return b
}
