package search_test

import (
	"fmt"
	"testing"

	"github.com/limber-edge/limber/family/search"
)

// labels is a set of images of which only the labels matter.
type labels []int

func (l labels) Len() int                         { return len(l) }
func (l labels) Label(i int) int                  { return l[i] }
func (l labels) Tensor([]float32, int, int) error { return nil }

func TestGuessesAreScoredAndCompared(t *testing.T) {
	a := []search.Guess{{Class: 0, Rank: 0}, {Class: 1, Rank: 0}, {Class: 1, Rank: 1}, {Class: 2, Rank: 5}}
	b := []search.Guess{{Class: 0, Rank: 0}, {Class: 0, Rank: 2}, {Class: 1, Rank: 1}, {Class: 0, Rank: 0}}
	if got := search.ScoreOf(a); got != (search.Score{Top1: 0.5, Top5: 0.75, Images: 4}) {
		t.Errorf("got %+v, want half right and three quarters among five", got)
	}
	if got := search.Agreement(a, b); got != 0.5 {
		t.Errorf("agreement: got %v, want 0.5", got)
	}
	if got := fmt.Sprint(search.Confusion(a, labels{0, 1, 2, 0}, 3)); got != "[[1 0 1] [0 1 0] [0 1 0]]" {
		t.Errorf("confusion: got %v", got)
	}
}
