package dash

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// query is what is on a screen.
type query struct {
	where    fleet.Where
	wrong    *whereError // what is wrong with the expression
	only     fleet.Look  // "": all
	from, to int         // the window of the list: from the place from up to, and without, to
	device   string      // "": none
	rollouts bool
	rollout  string // "": none
}

// windowMost is how many rows a window may have.
const windowMost = 500

// placeMost is beyond every list.
const placeMost = 1 << 20

// parseQuery reads what is asked for. An expression that is wrong is not its error: whoever
// types one wants to see where.
func parseQuery(raw string) (q query, err error) {
	v, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("the query cannot be read: %w", err)
	}
	for key, values := range v {
		if !slices.Contains([]string{"where", "only", "from", "to", "device", "rollouts", "rollout"}, key) {
			return q, fmt.Errorf("%.80q is none of where, only, from, to, device, rollouts, rollout", key)
		}
		if len(values) > 1 {
			return q, fmt.Errorf("%s is given %d times", key, len(values))
		}
	}
	q.only, q.device, q.rollout = fleet.Look(v.Get("only")), v.Get("device"), v.Get("rollout")
	q.rollouts = v.Get("rollouts") == "1"
	if q.where, err = fleet.ParseWhere(v.Get("where")); err != nil {
		q.wrong = wrongWhere(err)
	}
	q.from, err = place(v, "from")
	if err == nil {
		q.to, err = place(v, "to")
	}
	return q, errors.Join(err, q.check())
}

func wrongWhere(err error) *whereError {
	w := &whereError{Text: err.Error()}
	if at, ok := errors.AsType[*fleet.WhereError](err); ok {
		w.At = at.Pos
	}
	return w
}

func place(v url.Values, key string) (int, error) {
	if v.Get(key) == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v.Get(key))
	if err != nil || n < 0 || n > placeMost {
		return 0, fmt.Errorf("%s: %.80q is not from 0 to %d", key, v.Get(key), placeMost)
	}
	return n, nil
}

func (q query) check() error {
	switch {
	case q.only != "" && !slices.Contains(fleet.Looks(), q.only):
		return fmt.Errorf("only: %.80q is none of %v", q.only, fleet.Looks())
	case q.from > q.to || q.to-q.from > windowMost:
		return fmt.Errorf("from %d to %d is no window of 0 to %d rows", q.from, q.to, windowMost)
	case q.device != "" && !wire.ValidName(q.device):
		return fmt.Errorf("device: %.80q is not [A-Za-z0-9_.-]{1,64}", q.device)
	case q.rollout != "" && !wire.ValidName(q.rollout):
		return fmt.Errorf("rollout: %.80q is not [A-Za-z0-9_.-]{1,64}", q.rollout)
	}
	return nil
}
