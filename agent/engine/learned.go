package engine

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
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/store"
)

const (
	learnedPace     = 10 * time.Minute // between two savings
	learnedSize     = 64 << 10         // bytes at most; 20 kB are usual
	learnedPatience = time.Second      // for the inference that runs
)

// learned is what the governor learned of this device, as a cell of the store
// keeps it over a restart. Each execution provider has its own.
type learned struct {
	Family   string              `json:"family"` // digest
	Provider string              `json:"provider"`
	Learned  governor.Experience `json:"learned"`
}

func (b *backend) cellLearned() string { return "experience-" + b.provider() }

// cellBefore keeps that of the family that was in use before, which may come back.
func (b *backend) cellBefore() string { return b.cellLearned() + "-before" }

// saveLearned saves what a backend's governor learned, if that changed.
func (e *Engine) saveLearned(ctx context.Context, b *backend) {
	now, err := b.learned(ctx)
	if err == nil {
		old, none := e.deps.State.Cell(b.cellLearned())
		if none == nil && bytes.Equal(old, now) {
			return
		}
		if none == nil && b.others(old) {
			err = e.deps.State.SetCell(b.cellBefore(), old)
		}
		err = errors.Join(err, e.deps.State.SetCell(b.cellLearned(), now))
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, pipeline.ErrClosed) {
		e.log.Warn("experience not saved", "err", err)
	}
}

// learned is what the backend's governor learned, as it is saved.
func (b *backend) learned(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, learnedPatience)
	defer cancel()
	experience, err := b.pipe.Experience(ctx)
	if err != nil {
		return nil, fmt.Errorf("the pipeline does not answer: %w", err)
	}
	saved, err := json.Marshal(learned{Family: string(b.family.Digest()), Provider: b.provider(), Learned: experience})
	if err == nil && len(saved) > learnedSize {
		err = fmt.Errorf("experience of %d bytes, at most %d are kept", len(saved), learnedSize)
	}
	return saved, err
}

// others tells whether a cell holds what the governor learned with another family.
func (b *backend) others(saved []byte) bool {
	var of learned
	return json.Unmarshal(saved, &of) == nil && of.Family != "" && of.Family != string(b.family.Digest())
}

// loadLearned gives a backend that does not run yet what an earlier one of its family
// learned. What is damaged is not worth a fault: it is learned anew.
func (e *Engine) loadLearned(b *backend) {
	err := e.recall(b, b.cellLearned())
	if err == nil || errors.Is(err, store.ErrNotFound) || e.recall(b, b.cellBefore()) == nil {
		return
	}
	say := e.log.Warn
	if saved, none := e.deps.State.Cell(b.cellLearned()); none == nil && b.others(saved) {
		say = e.log.Info // so it is with every new family
	}
	say("experience not usable, the device learns anew", "err", err)
}

// recall gives a backend what a cell holds.
func (e *Engine) recall(b *backend, cell string) error {
	saved, err := e.deps.State.Cell(cell)
	if err != nil {
		return err
	}
	return b.remember(saved)
}

func (b *backend) remember(saved []byte) error {
	if len(saved) > learnedSize {
		return fmt.Errorf("experience of %d bytes, at most %d are kept", len(saved), learnedSize)
	}
	var of learned
	if err := json.Unmarshal(saved, &of); err != nil {
		return fmt.Errorf("experience: %w", err)
	}
	if digest := string(b.family.Digest()); of.Family != digest || of.Provider != b.provider() {
		return fmt.Errorf("experience of family %.12s on %.12s, this is %.12s on %s", of.Family, of.Provider, digest,
			b.provider())
	}
	return b.pipe.Remember(of.Learned)
}

// decisionLog is where a backend's decisions are logged: a file of its own for
// each execution provider and number of threads, and for every other backend on the
// same that took over because more members could be built, or with another family, as
// two work at once while one takes over from the other.
func (e *Engine) decisionLog(b *backend) pipeline.Log {
	if e.cfg.LogMiB == 0 {
		return pipeline.Log{}
	}
	name := "decisions.log"
	if b.again {
		name = "decisions-again.log"
	}
	switch v := b.loader.Variant(); {
	case v.Provider != family.CPU:
		name = "decisions-" + v.Provider + ".log"
	case v.Threads != e.baseVariant().Threads:
		name = fmt.Sprintf("decisions-%d.log", v.Threads)
	}
	return pipeline.Log{Path: filepath.Join(e.cfg.LogFolder, name), Bytes: int64(e.cfg.LogMiB) << 20,
		Version: e.cfg.Version}
}

// baseVariant is the one that comes first.
func (e *Engine) baseVariant() family.Variant {
	return family.Variant{Provider: family.CPU, Threads: max(1, e.cfg.Threads)}
}
