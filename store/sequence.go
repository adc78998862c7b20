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
	count int // of those that have not
}

func (s *sequence[E]) push(e E) {
	s.tidy()
	s.elems = append(s.elems, e)
	s.count++
}

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
	s.tidy()
	if s.head == len(s.elems) {
		return nil
	}
	return &s.elems[s.head]
}

// tidy gives back the room of those that left, wherever, once they are the most.
func (s *sequence[E]) tidy() {
	if len(s.elems) <= 3*s.count+64 {
		return
	}
	s.elems, s.head = slices.DeleteFunc(s.elems, E.left), 0
	if cap(s.elems) > 4*s.count+64 {
		s.elems = append(make([]E, 0, 2*s.count), s.elems...)
	}
}
