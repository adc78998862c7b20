package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/pipeline"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/store"
)

const (
	experiencePace     = 10 * time.Minute // between two savings
	experienceSize     = 64 << 10         // bytes at most; 20 kB are usual
	experiencePatience = time.Second      // for the inference that runs
)

// experience is what the governor learned of this device, as a cell of the
// store keeps it over a restart. Each execution provider has its own.
type experience struct {
	Family   string              `json:"family"` // digest
	Provider string              `json:"provider"`
	Learned  governor.Experience `json:"learned"`
}

// provider is the execution provider of the crew.
func (c *crew) provider() string { return c.shelf.Variant().Provider }

func (c *crew) cellExperience() string { return "experience-" + c.provider() }

// learn saves what the governor learned now and then, until ctx ends.
func (a *Agent) learn(ctx context.Context) error {
	tick := time.NewTicker(experiencePace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			a.saveExperience(ctx)
		}
	}
}

// saveExperience saves what the governor learned, if that changed.
func (a *Agent) saveExperience(ctx context.Context) {
	c := a.crew.Load()
	if c == nil {
		return
	}
	select {
	case <-c.over: // nobody would answer
		return
	default:
	}
	b, err := c.experience(ctx)
	if err == nil {
		if old, e := a.parts.Store.Cell(c.cellExperience()); e == nil && bytes.Equal(old, b) {
			return
		}
		err = a.parts.Store.SetCell(c.cellExperience(), b)
	}
	if err != nil && ctx.Err() == nil {
		a.log.Warn("experience not saved", "err", err)
	}
}

// experience is what the crew's governor learned, as it is saved.
func (c *crew) experience(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, experiencePatience)
	defer cancel()
	learned, err := c.pipe.Experience(ctx)
	if err != nil {
		return nil, fmt.Errorf("the pipeline does not answer: %w", err)
	}
	b, err := json.Marshal(experience{Family: string(c.family.Digest()), Provider: c.provider(), Learned: learned})
	if err == nil && len(b) > experienceSize {
		err = fmt.Errorf("experience of %d bytes, at most %d are kept", len(b), experienceSize)
	}
	return b, err
}

// recall gives a crew that does not run yet what an earlier one learned. What
// is damaged or of another family is not worth a fault: it is learned anew.
func (a *Agent) recall(c *crew) {
	b, err := a.parts.Store.Cell(c.cellExperience())
	if errors.Is(err, store.ErrNotFound) {
		return
	}
	if err == nil {
		err = c.remember(b)
	}
	if err != nil {
		a.log.Warn("experience not usable, the device learns anew", "err", err)
	}
}

func (c *crew) remember(b []byte) error {
	if len(b) > experienceSize {
		return fmt.Errorf("experience of %d bytes, at most %d are kept", len(b), experienceSize)
	}
	var e experience
	if err := json.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("experience: %w", err)
	}
	if digest := string(c.family.Digest()); e.Family != digest || e.Provider != c.provider() {
		return fmt.Errorf("experience of family %.12s on %.12s, this is %.12s on %s", e.Family, e.Provider, digest, c.provider())
	}
	return c.pipe.Remember(e.Learned)
}

// decisionLog is where the crew's decisions are logged: a file of its own for
// each execution provider and number of threads, and for every other crew that a
// disk with room made larger, as two crews work at once while one relieves the
// other.
func (a *Agent) decisionLog(c *crew) pipeline.Log {
	if a.cfg.Governor.LogMiB == 0 {
		return pipeline.Log{}
	}
	name := "decisions.log"
	if c.again {
		name = "decisions-again.log"
	}
	switch o := c.shelf.Variant(); {
	case o.Provider != ort.CPU:
		name = "decisions-" + o.Provider + ".log"
	case o.Threads != a.parts.Shelf.Variant().Threads:
		name = fmt.Sprintf("decisions-%d.log", o.Threads)
	}
	return pipeline.Log{Path: filepath.Join(a.cfg.State, name), Bytes: int64(a.cfg.Governor.LogMiB) << 20, Version: a.parts.Version}
}
