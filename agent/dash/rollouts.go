package dash

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
)

// rolloutsNews is what changed of the list of rollouts; nil for nothing.
func (st *stream) rolloutsNews() *rolloutsScreen {
	if !st.ask.rollouts {
		return nil
	}
	order, docs := []string{}, map[string]*wire.Rollout{}
	for _, doc := range slices.Backward(st.remote.Rollouts()) {
		order = append(order, doc.ID)
		doc.Devices = nil
		if is := fresh(st.told, "rollout "+doc.ID, doc); is != nil {
			docs[doc.ID] = is
		}
	}
	is := rolloutsScreen{fresh(st.told, "trouble", st.remote.Detail()), fresh(st.told, "rollouts", order), docs}
	if is.Trouble == nil && is.Order == nil && len(docs) == 0 {
		return nil
	}
	return &is
}

// rolloutNews is what changed of the rollout on the screen; nil for nothing.
func (st *stream) rolloutNews() *rolloutScreen {
	if st.ask.rollout == "" {
		return nil
	}
	p := st.pictures.of(st.remote, st.ask.rollout)
	st.heard = p.heard
	is := rolloutScreen{ID: st.ask.rollout, Known: fresh(st.told, "the rollout is known", p.there),
		Trouble: fresh(st.told, "the rollout's trouble", st.remote.Detail())}
	if p.there {
		is.Doc = fresh(st.told, "the rollout", p.doc)
	}
	is.Total = fresh(st.told, "the rollout's total", len(p.devices))
	st.rowNews(&is, p.devices)
	is.ByLabel = fresh(st.told, "the rollout by label", p.byLabel)
	if is.Known == nil && is.Trouble == nil && is.Doc == nil && is.Total == nil && is.Order == nil &&
		is.ByLabel == nil && len(is.Devices) == 0 {
		return nil
	}
	return &is
}

// rowNews adds what changed of the rollout's devices in the window.
func (st *stream) rowNews(is *rolloutScreen, devices []wire.RolloutDevice) {
	names, shown := []string{}, map[string]bool{}
	is.Devices = map[string]*wire.RolloutDevice{}
	for _, d := range devices[min(st.ask.from, len(devices)):min(st.ask.to, len(devices))] {
		names, shown[d.Device] = append(names, d.Device), true
		if row := fresh(st.told, "row "+d.Device, d); row != nil {
			is.Devices[d.Device] = row
		}
	}
	for name := range st.rows {
		if !shown[name] {
			delete(st.told, "row "+name) // and the page drops it
		}
	}
	st.rows = shown
	is.Order = fresh(st.told, "rows", names)
}

// pictures are of rollouts, each made once for all the screens that show it: one of ten
// thousand devices takes some 20 ms. Any goroutine may ask.
type pictures struct {
	mu  sync.Mutex
	all map[string]*picture
}

// picture is a rollout at a moment. Nothing of it changes any more.
type picture struct {
	there   bool
	doc     wire.Rollout         // without its devices
	devices []wire.RolloutDevice // those first that are to be looked at sooner
	byLabel []controller.Labelled
	heard   uint64 // of the controller, until then
	made    time.Time
}

// of is a rollout as it is now, or was less than pace ago.
func (p *pictures) of(r *controller.Remote, id string) *picture {
	p.mu.Lock()
	defer p.mu.Unlock()
	heard, now := r.Heard(), time.Now()
	maps.DeleteFunc(p.all, func(_ string, is *picture) bool { return is.heard != heard && now.Sub(is.made) >= pace })
	if is, ok := p.all[id]; ok {
		return is
	}
	is := pictureOf(r, id)
	if is.heard, is.made = heard, now; is.there {
		p.all[id] = is
	}
	return is
}

func pictureOf(r *controller.Remote, id string) *picture {
	doc, there := r.Rollout(id)
	devices := slices.Clone(doc.Devices) // which are the Remote's
	slices.SortStableFunc(devices, controller.ByUrgency)
	doc.Devices = nil
	byLabel := append([]controller.Labelled{}, controller.ByLabel(devices, r.Labels)...)
	return &picture{there: there, doc: doc, devices: devices, byLabel: byLabel}
}
