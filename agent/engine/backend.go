package engine

import (
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family"
)

// backend is the members of the family that are worth using on this device, on one
// variant: the Pareto front of their accuracy and of their latency as measured
// there.
type backend struct {
	loader  Loader
	family  *family.Family
	profile *family.Profile
	front   []int // indices into the family, by rising latency
	pipe    *pipeline.Pipeline
	over    chan struct{} // closed when the pipeline has answered everything
}

// member returns the family's entry for a position in front.
func (b *backend) member(at int) *family.Member { return &b.family.Members[b.front[at]] }

// best is the most accurate member.
func (b *backend) best() *family.Member { return b.member(len(b.front) - 1) }

// ended tells whether the pipeline has stopped.
func (b *backend) ended() bool {
	select {
	case <-b.over:
		return true
	default:
		return false
	}
}
