package power

import "time"

// ParseLine and ParseQuery read what comes from outside, and Give gives a socket away.
var (
	ParseLine  = parseLine
	ParseQuery = parseQuery
	Give       = give
)

// Hasten sets the patience of a helper, with its peers and with nvpmodel.
func (h *Helper) Hasten(peers, tool time.Duration) { h.patience, h.setter.patience = peers, tool }

// Rest forgets how often the mode was changed of late.
func (b *Board) Rest() { b.changes = changes{} }
