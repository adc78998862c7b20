package power

import "time"

// ParseLine and ParseQuery read what comes from outside.
var (
	ParseLine  = parseLine
	ParseQuery = parseQuery
)

// Hasten shortens the patience of a helper, with its peers and with nvpmodel.
func (h *Helper) Hasten(d time.Duration) { h.patience, h.setter.patience = d, d }

// Rest forgets how often the mode was changed of late.
func (b *Board) Rest() { b.changes = changes{} }
