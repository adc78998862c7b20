package family

// Change is how one member differs between two families.
type Change struct {
	Name     string
	Old, New *Member // nil: not in that family
}

// Same tells whether the member is the same sub-network with the same
// statistics in both, or the same foreign model. What was measured of it may
// differ.
func (c Change) Same() bool {
	if c.Old == nil || c.New == nil {
		return false
	}
	a, b := c.Old, c.New
	return a.Arch.Equal(b.Arch) && a.Stats == b.Stats && a.Model == b.Model && a.Input == b.Input &&
		a.Output == b.Output && a.Outputs == b.Outputs
}

// Diff lists the members of two families by name, in the order of the second,
// those that only the first has at the end.
func Diff(old, now *Family) []Change {
	var changes []Change
	for i := range now.Members {
		c := Change{Name: now.Members[i].Name, New: &now.Members[i]}
		if at := old.Index(c.Name); at >= 0 {
			c.Old = &old.Members[at]
		}
		changes = append(changes, c)
	}
	for i := range old.Members {
		if now.Index(old.Members[i].Name) < 0 {
			changes = append(changes, Change{Name: old.Members[i].Name, Old: &old.Members[i]})
		}
	}
	return changes
}

// Missing lists the blobs that a device with the first family needs for the
// second.
func Missing(old, now *Family) []Digest {
	there := map[Digest]bool{}
	for _, d := range old.Digests() {
		there[d] = true
	}
	var missing []Digest
	for _, d := range now.Digests() {
		if !there[d] {
			missing = append(missing, d)
		}
	}
	return missing
}
