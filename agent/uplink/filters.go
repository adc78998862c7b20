package uplink

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/store"
)

// cellFilters holds what the broker may have noted down for this device: filters
// of its configuration, now and before. A session keeps those that were taken out,
// and would bring what nobody wants any more, or bring twice what another matches.
const cellFilters = "filters"

// maxFormer bounds how many filters of before are remembered.
const maxFormer = 256

// RecallFilters finds out which filters the session may hold from before, and
// remembers those of now.
func RecallFilters(st *store.Store, now []mqtt.Subscription) (former []string, err error) {
	var known, all []string
	if b, err := st.Cell(cellFilters); err == nil && json.Unmarshal(b, &known) != nil {
		known = nil // unreadable: as on a new device
	}
	for _, s := range now {
		all = append(all, s.Filter)
	}
	for _, filter := range known {
		if !slices.Contains(all, filter) && len(former) < maxFormer {
			former = append(former, filter)
		}
	}
	if all = append(all, former...); slices.Equal(all, known) {
		return former, nil
	}
	b, err := json.Marshal(all)
	if err == nil {
		err = st.SetCell(cellFilters, b)
	}
	if err != nil {
		return former, fmt.Errorf("remember the filters subscribed to: %w", err)
	}
	return former, nil
}
