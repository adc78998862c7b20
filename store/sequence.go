package store

import (
	"slices"
	"sort"
)

// An element of a sequence has a number, and leaves it for good once.
type element interface {
	number() uint64
	left() bool
}

// A sequence holds elements in the order of their numbers. New ones come at the
// end; they leave anywhere, mostly at the front.
type sequence[E element] struct {
	elems []E
	head  int // elems[:head] have left
}

func (s *sequence[E]) push(e E) { s.elems = append(s.elems, e) }

// find returns the element with that number, nil if there is none or it left.
func (s *sequence[E]) find(number uint64) *E {
	i := s.search(number)
	if i == len(s.elems) || s.elems[i].number() != number || s.elems[i].left() {
		return nil
	}
	return &s.elems[i]
}

func (s *sequence[E]) holds(number uint64) bool { return s.find(number) != nil }

// search returns the index of the first element numbered that or above.
func (s *sequence[E]) search(number uint64) int {
	return s.head + sort.Search(len(s.elems)-s.head, func(i int) bool {
		return s.elems[s.head+i].number() >= number
	})
}

// first returns the first element that has not left, nil if all have.
func (s *sequence[E]) first() *E {
	for s.head < len(s.elems) && s.elems[s.head].left() {
		s.head++
	}
	s.compact()
	if s.head == len(s.elems) {
		return nil
	}
	return &s.elems[s.head]
}

// thin takes out those that left anywhere, once they are the most: live is how many
// did not.
func (s *sequence[E]) thin(live int) {
	if len(s.elems)-s.head > 2*live+64 {
		s.elems, s.head = slices.DeleteFunc(s.elems[s.head:], E.left), 0
	}
}

// compact gives back the room of those that left once they are the most.
func (s *sequence[E]) compact() {
	if s.head < 64 || s.head < len(s.elems)/2 {
		return
	}
	n := copy(s.elems, s.elems[s.head:])
	clear(s.elems[n:])
	s.elems, s.head = s.elems[:n], 0
	if cap(s.elems) > 4*n+64 {
		s.elems = append(make([]E, 0, 2*n), s.elems...)
	}
}
