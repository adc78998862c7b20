package family

import (
	"cmp"
	"slices"
)

// Point is a candidate's place in the plane that a search looks at.
type Point struct {
	Cost float64 // milliseconds, or millions of multiply-accumulates
	Top1 float64 // fraction
}

// Pareto returns the indices of the points that no other point beats, by
// rising cost: each is strictly more accurate than every cheaper one. Of equal
// points the first stays.
func Pareto(points []Point) []int {
	order := make([]int, len(points))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(points[a].Cost, points[b].Cost), cmp.Compare(points[b].Top1, points[a].Top1))
	})
	var front []int
	for _, i := range order {
		if len(front) == 0 || points[i].Top1 > points[front[len(front)-1]].Top1 {
			front = append(front, i)
		}
	}
	return front
}
