package ofa

import (
	"fmt"

	"github.com/limber-edge/limber/family"
)

// Member cuts a family's member and puts its own BN statistics in.
func (s *Supernet) Member(m family.Member, blobs family.Blobs) (*Subnet, error) {
	sub, err := s.Cut(m.Arch)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	b, err := blobs.Blob(m.Stats)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	stats, err := family.Floats(b)
	if err != nil {
		return nil, fmt.Errorf("member %s: BN statistics: %w", m.Name, err)
	}
	if err := sub.SetStats(stats); err != nil {
		return nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	return sub, nil
}
