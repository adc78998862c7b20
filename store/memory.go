package store

import (
	"cmp"
	"slices"
)

// memory is the records that are kept there.
type memory struct {
	fresh    [Classes][]*item // not in outbox.db, in order; every other record is
	logged   [Classes]int     // of fresh, how many the journal has
	inFlight [Classes]int     // of fresh, how many there are with those that a commit under way holds
	bytes    int64            // cost of the items that are fresh or wait
}

// find returns the item that is not in outbox.db, nil if it is.
func (m *memory) find(seq uint64) *item {
	if c, i := m.index(seq); i >= 0 {
		return m.fresh[c][i]
	}
	return nil
}

// index returns the place of a fresh item, -1 if there is none.
func (m *memory) index(seq uint64) (Class, int) {
	for c := range m.fresh {
		i, ok := slices.BinarySearchFunc(m.fresh[c], seq, func(it *item, seq uint64) int { return cmp.Compare(it.Seq, seq) })
		if ok {
			return Class(c), i
		}
	}
	return 0, -1
}

// stored tells whether a record that exists is in outbox.db.
func (m *memory) stored(seq uint64) bool { return m.find(seq) == nil }

// durable tells whether a record that exists is in outbox.db or in the journal.
func (m *memory) durable(seq uint64) bool {
	c, i := m.index(seq)
	return i < m.logged[c]
}

// kept is how many fresh items of a class are not to be given up: the journal has them,
// or a commit under way.
func (m *memory) kept(c Class) int { return max(m.logged[c], m.inFlight[c]) }

// unlogged returns the fresh items of a class that the journal does not have.
func (m *memory) unlogged(c Class) []*item { return m.fresh[c][m.logged[c]:] }

// drop forgets a fresh item, mostly one of the oldest or of the newest.
func (m *memory) drop(c Class, i int) {
	items := m.fresh[c]
	m.bytes -= items[i].cost()
	if i > len(items)/2 {
		m.fresh[c] = slices.Delete(items, i, i+1)
		return
	}
	copy(items[1:], items[:i])
	items[0], m.fresh[c] = nil, items[1:]
}

// count is how many items are fresh.
func (m *memory) count() (n int) {
	for _, items := range m.fresh {
		n += len(items)
	}
	return n
}

// oldest returns the class whose oldest fresh item is to be given up first; false
// if none but the newest can be.
func (m *memory) oldest() (Class, bool) {
	free := m.count()
	for c := range Class(Classes) {
		free -= m.kept(c)
	}
	if free < 2 {
		return 0, false
	}
	for c := range m.fresh {
		if len(m.fresh[c]) > m.kept(Class(c)) {
			return Class(c), true
		}
	}
	return 0, false
}

// again makes items fresh that were stored.
func (m *memory) again(items [Classes][]*item) {
	for c := range m.fresh {
		m.fresh[c] = append(items[c], m.fresh[c]...)
		slices.SortFunc(m.fresh[c], func(a, b *item) int { return cmp.Compare(a.Seq, b.Seq) })
		m.logged[c] = 0 // they are no longer the first
	}
}

// store takes what outbox.db has now out of what is fresh.
func (m *memory) store() {
	for c, n := range m.inFlight {
		m.fresh[c] = slices.Delete(m.fresh[c], 0, n)
	}
	m.logged, m.inFlight = [Classes]int{}, [Classes]int{}
}

// log notes what the journal has now.
func (m *memory) log() { m.logged, m.inFlight = m.inFlight, [Classes]int{} }
