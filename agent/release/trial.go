package release

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/firmware/slot"
)

// framesLeast is how many frames a release must answer on its trial.
const framesLeast = 20

// seen is what a release has shown on its trial so far.
type seen struct {
	canary    error // of a member that gave other logits than it must
	engine    engine.State
	loading   bool   // members are still being loaded
	detail    string // what keeps the engine
	frames    uint64 // answered with classes
	linked    bool   // a broker was there
	delivered bool   // a record got there
}

// judge tells whether a release has proved itself. Once its time is over it has not, and
// there is a reason, with what that is in words. A reason that the release before might
// share, the link, comes last: it is found only where nothing else is wrong.
func (s seen) judge(over bool) (proved bool, r slot.Reason, why string) {
	switch {
	case s.canary != nil:
		return false, slot.Canary, s.canary.Error()
	case s.ready() && s.frames >= framesLeast && s.linked && s.delivered:
		return true, "", ""
	case !over:
		return false, "", ""
	case !s.ready() || s.frames < framesLeast:
		why = fmt.Sprintf("%d of %d frames answered, the engine is %s", s.frames, framesLeast, s.engine)
		if s.detail != "" {
			why += ": " + s.detail
		}
		return false, slot.Inference, why
	case !s.linked:
		return false, slot.NoLink, "no broker could be reached"
	}
	return false, slot.NoLink, "the broker took no message"
}

// ready tells whether every member that can be used is, so that its canary was run.
func (s seen) ready() bool {
	return !s.loading && (s.engine == engine.Ready || s.engine == engine.Degraded)
}

// lookPace is how often it is looked at what a release has shown.
const lookPace = 100 * time.Millisecond

// A trial watches this program from its start on.
type trial struct {
	engine   Engine
	canaries *Canaries
	link     Link
	until    time.Time // by the running clock: it has proved itself, or has not
	unfit    []string  // members that could not be used under the release before
	seen     seen
	frames   uint64      // answered at the look before
	asking   atomic.Bool // a picture has no answer yet
}

// run looks until there is a verdict: nil, a *failing, or ctx's error. tell is called with
// each look.
func (t *trial) run(ctx context.Context, tell func(frames uint64)) error {
	tick := time.NewTicker(lookPace)
	defer tick.Stop()
	for {
		t.look()
		tell(t.seen.frames)
		proved, r, why := t.seen.judge(!time.Now().Before(t.until))
		switch {
		case proved:
			return nil
		case r != "":
			return &failing{r, why}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look notes what there is to be seen. Where no jobs come it asks for what is missing.
func (t *trial) look() {
	s := &t.seen
	now := t.engine.Status()
	s.engine, s.loading, s.detail = now.State, now.Loading, now.Detail
	if s.canary == nil {
		s.canary = t.firstNew(t.canaries.all())
	}
	s.frames = t.engine.Answered()
	link := t.link.Status()
	s.linked = s.linked || link.Online
	s.delivered = s.delivered || link.Taken > 0
	if s.ready() && s.frames < framesLeast && s.frames == t.frames {
		t.ask()
	}
	t.frames = s.frames
}

// askDeadline is that of a picture that nobody waits for: as long as any job may have.
const askDeadline = time.Minute

// ask has a picture of no importance answered, if none is at hand. What the goal in force
// wants does not bind it.
func (t *trial) ask() {
	if !t.asking.CompareAndSwap(false, true) {
		return
	}
	t.engine.Submit(pipeline.Job{Body: picture(), Received: time.Now(),
		Deadline: askDeadline, Floor: math.SmallestNonzeroFloat64, Priority: pipeline.Low},
		func(*engine.Answer) { t.asking.Store(false) })
}

// picture is a grey one, in PNG.
func picture() []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 32, 32))); err != nil {
		panic("release: a picture cannot be encoded: " + err.Error())
	}
	return b.Bytes()
}

// firstNew is the first canary that failed of a member that the release before could use.
func (t *trial) firstNew(failed map[string]error) error {
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		if !slices.Contains(t.unfit, name) {
			return fmt.Errorf("%s: %w", name, failed[name])
		}
	}
	return nil
}

// cellUnfit holds the names of the members that could not be used before a release was
// tried, as a list in JSON.
const cellUnfit = "release-unfit"

// noteUnfit keeps those that cannot be used now, which no other release is to blame for.
func (u *Updater) noteUnfit() error {
	return u.deps.State.SetCell(cellUnfit, encode(u.deps.Canaries.unfit(u.deps.Engine.Status())))
}

// notedUnfit are none where nothing can be read, as after a release that did not note them.
func (u *Updater) notedUnfit() (names []string) {
	b, err := u.deps.State.Cell(cellUnfit)
	if err != nil || json.Unmarshal(b, &names) != nil {
		return nil
	}
	return names
}

// failing is why a release has not proved itself.
type failing struct {
	reason slot.Reason
	why    string
}

func (f *failing) Error() string { return fmt.Sprintf("%s: %s", f.reason, f.why) }
