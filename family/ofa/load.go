package ofa

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/limber-edge/limber/family"
)

// Revision changes whenever the same weights would be cut into another model,
// so that models kept from before are built again.
const Revision = "2"

// Load reads the checkpoint at path and the description beside it: X.json for
// X.pth. Without one it is taken for a published ImageNet supernet.
func Load(path string) (*Supernet, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("supernet: %w", err)
	}
	c, err := ReadCheckpoint(b)
	if err != nil {
		return nil, fmt.Errorf("supernet %s: %w", path, err)
	}
	desc, err := descriptionBeside(path, c)
	if err != nil {
		return nil, err
	}
	net, err := New(c, desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return net, nil
}

// descriptionBeside reads the description; where there is none, the tensors tell
// which of the published structures it is.
func descriptionBeside(checkpoint string, c *Checkpoint) (Description, error) {
	path := strings.TrimSuffix(checkpoint, ".pth") + ".json"
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return recognised(c), nil
	}
	if err != nil {
		return Description{}, fmt.Errorf("supernet description: %w", err)
	}
	d, err := ParseDescription(b)
	if err != nil {
		return Description{}, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// recognised is the published description that fits the names of the tensors.
func recognised(c *Checkpoint) Description {
	for _, name := range c.Names() {
		switch {
		case strings.HasPrefix(name, "input_stem."):
			return PublishedResNet50()
		case strings.HasPrefix(name, "feature_mix_layer.bn."):
			return PublishedProxylessNAS()
		}
	}
	return Published()
}

// Parse reads a checkpoint that is in memory.
func Parse(checkpoint []byte, desc Description) (*Supernet, error) {
	c, err := ReadCheckpoint(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("supernet: %w", err)
	}
	return New(c, desc)
}

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
