package agent

import (
	"encoding/json"
	"fmt"
	"slices"
)

// cellFilters holds what the broker may have noted down for this device: filters
// of its configuration, now and before. A session keeps those that were taken out,
// and would bring what nobody wants any more, or bring twice what another matches.
const cellFilters = "filters"

// maxFormer bounds how many filters of before are remembered.
const maxFormer = 256

// recallFilters finds out which filters the session may hold from before, and
// remembers those of now.
func (p *Parts) recallFilters(cfg Config) error {
	link, err := cfg.link()
	if err != nil {
		return nil // New tells of it
	}
	var known, all []string
	if b, err := p.Store.Cell(cellFilters); err == nil && json.Unmarshal(b, &known) != nil {
		known = nil // unreadable: as on a new device
	}
	for _, s := range link.Subscriptions {
		all = append(all, s.Filter)
	}
	for _, filter := range known {
		if !slices.Contains(all, filter) && len(p.Former) < maxFormer {
			p.Former = append(p.Former, filter)
		}
	}
	if all = append(all, p.Former...); slices.Equal(all, known) {
		return nil
	}
	b, err := json.Marshal(all)
	if err == nil {
		err = p.Store.SetCell(cellFilters, b)
	}
	if err != nil {
		return fmt.Errorf("remember the filters subscribed to: %w", err)
	}
	return nil
}
