package dash

import (
	"slices"

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
	doc, there := st.remote.Rollout(st.ask.rollout)
	is := rolloutScreen{ID: st.ask.rollout, Known: fresh(st.told, "the rollout is known", there),
		Trouble: fresh(st.told, "the rollout's trouble", st.remote.Detail())}
	devices := slices.Clone(doc.Devices) // which are the Remote's
	if doc.Devices = nil; there {
		is.Doc = fresh(st.told, "the rollout", doc)
	}
	is.Total = fresh(st.told, "the rollout's total", len(devices))
	st.rowNews(&is, devices)
	is.ByLabel = fresh(st.told, "the rollout by label", append([]controller.Labelled{},
		controller.ByLabel(devices, st.remote.Labels)...))
	if is.Known == nil && is.Trouble == nil && is.Doc == nil && is.Total == nil && is.Order == nil &&
		is.ByLabel == nil && len(is.Devices) == 0 {
		return nil
	}
	return &is
}

// rowNews adds what changed of the rollout's devices in the window.
func (st *stream) rowNews(is *rolloutScreen, devices []wire.RolloutDevice) {
	slices.SortStableFunc(devices, controller.ByUrgency)
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
