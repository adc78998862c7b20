package store

import (
	"cmp"
	"slices"
)

// memory is the records that are kept there.
type memory struct {
	fresh    [Classes][]*item // not committed, in order; every other record is stored
	inFlight [Classes]int     // of fresh, how many the commit under way holds
	bytes    int64            // cost of the items that are fresh or wait
}

// find returns the item that waits for its commit, nil if it does not.
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

// stored tells whether a record that exists has been committed.
func (m *memory) stored(seq uint64) bool { return m.find(seq) == nil }

// drop forgets a fresh item.
func (m *memory) drop(c Class, i int) {
	m.bytes -= m.fresh[c][i].cost()
	m.fresh[c] = slices.Delete(m.fresh[c], i, i+1)
}

// count is how many items are fresh.
func (m *memory) count() (n int) {
	for _, items := range m.fresh {
		n += len(items)
	}
	return n
}

// oldest returns the class whose oldest fresh item is to be given up first; false
// if none but the newest can be: a commit under way keeps what it holds.
func (m *memory) oldest() (Class, bool) {
	free := m.count()
	for _, n := range m.inFlight {
		free -= n
	}
	if free < 2 {
		return 0, false
	}
	for c := range m.fresh {
		if len(m.fresh[c]) > m.inFlight[c] {
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
	}
}

// settle takes what was committed out of what is fresh.
func (m *memory) settle() {
	for c, n := range m.inFlight {
		m.fresh[c] = slices.Delete(m.fresh[c], 0, n)
		m.inFlight[c] = 0
	}
}
