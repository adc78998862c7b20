package slot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Agent is what the program that limber-boot started does with the slots. It is not safe
// for concurrent use: one goroutine has it.
type Agent struct {
	*Slots
	running Name
}

// Agent returns the slots for the program that runs from one of them, see Launched.
func (s *Slots) Agent(running Name) *Agent { return &Agent{&Slots{s.dir, true}, running} }

// Running is the slot of this program.
func (a *Agent) Running() Name { return a.running }

// OnTrial tells whether this program is, as far as can be read.
func (a *Agent) OnTrial() bool {
	p, err := a.Phase()
	return err == nil && p.InTrial() && p.Slot == a.running
}

// Fetch records that a release is to be brought, by a command that may be nil. It fails
// with ErrRefused for one that did not prove itself, and while another is not judged.
func (a *Agent) Fetch(version, digest string, c *Command) error {
	return a.change(func(p *Phase) error {
		switch {
		case p.InTrial() || p.Provisional:
			return fmt.Errorf("release %s is not judged yet", p.Version)
		case p.IsRefused(digest):
			return fmt.Errorf("release %s: %w", version, ErrRefused)
		}
		if p.Digest != digest {
			p.Trials = 0
		}
		p.Phase, p.Version, p.Digest, p.Command = Fetch, version, digest, c
		return nil
	})
}

// Allow has a digest that was refused tried again.
func (a *Agent) Allow(digest string) error {
	return a.change(func(p *Phase) error {
		p.allow(digest)
		return nil
	})
}

// Stage writes the release that was fetched to the slot that does not run. open returns
// the bytes of a file, which are compared with its digest. It may be called again after an
// error, or after a start that found the phase Fetch or Stage.
func (a *Agent) Stage(ctx context.Context, r Release, open func(File) (io.ReadCloser, error)) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("release %s: %w", r.Version, err)
	}
	err := a.change(func(p *Phase) error {
		if p.Phase != Fetch && p.Phase != Stage || p.Digest != r.Digest {
			return fmt.Errorf("release %s was not fetched", r.Version)
		}
		// The slot before this one is overwritten: nothing may go back to it.
		p.Phase, p.Slot, p.Previous = Stage, a.running, Package
		return nil
	})
	if err == nil {
		err = a.stage(ctx, a.running.other(), r, open)
	}
	if err != nil {
		return fmt.Errorf("stage release %s: %w", r.Version, err)
	}
	return nil
}

// Held is the path of a file with this digest that the release before this update has, so
// that Stage can be given it again. Its bytes may have been damaged since; Stage finds out.
func (a *Agent) Held(digest string) (path string, ok bool) {
	r, err := a.Release(a.running)
	if err != nil {
		return "", false
	}
	for _, f := range r.Files {
		if f.Digest == digest {
			return a.path(string(a.running), f.Path), true
		}
	}
	return "", false
}

// Drop gives up a release that was not tried.
func (a *Agent) Drop() error {
	return a.change(func(p *Phase) error {
		if p.Phase != Fetch && p.Phase != Stage {
			return fmt.Errorf("nothing to be given up in phase %s", p.Phase)
		}
		p.Phase, p.Version, p.Digest, p.Command = Idle, "", "", nil
		return nil
	})
}

// Switch records that the release that was staged, or is undecided, is to prove itself
// within so long, rounded up to seconds. Then this program ends, with whatever exit code,
// and limber-boot starts the other.
func (a *Agent) Switch(within time.Duration) error {
	to := a.running.other()
	r, err := a.Release(to)
	if err != nil {
		return fmt.Errorf("switch to %w", err)
	}
	return a.change(func(p *Phase) error {
		switch {
		case p.Phase != Stage && p.Phase != Undecided, p.Digest != r.Digest:
			return fmt.Errorf("switch to release %s: it is not staged", r.Version)
		case p.IsRefused(r.Digest), p.Trials >= maxTrials:
			return fmt.Errorf("switch to release %s: %w", r.Version, ErrRefused)
		}
		p.Phase, p.Slot, p.Previous = Trial, to, a.running
		p.restart()
		p.Trials, p.TrialS = p.Trials+1, int((within+time.Second-1)/time.Second)
		return nil
	})
}

// errNoTrial is for a verdict where this program is not on trial.
var errNoTrial = errors.New("this program is not on trial")

// Confirm records that this program has proved itself. After an error it is to be called
// again, until it is on the disk; so are Stand and Withdraw.
func (a *Agent) Confirm() error {
	return a.change(func(p *Phase) error {
		switch {
		case p.Phase == Confirmed && p.Slot == a.running:
			return nil // it may not have reached the disk
		case !p.InTrial() || p.Slot != a.running || p.Verdict != "":
			return errNoTrial
		}
		p.judged(Confirmed, "", "", time.Now())
		p.Trials = 0
		return nil
	})
}

// Fail records that this program has not proved itself. Then it ends, its last words on
// stderr, and limber-boot starts the one before.
func (a *Agent) Fail(r Reason) error {
	return a.change(func(p *Phase) error {
		if !p.InTrial() || p.Slot != a.running {
			return errNoTrial
		}
		p.Verdict = r
		return nil
	})
}

// errDecided is for a second word on a verdict.
var errDecided = errors.New("no verdict is provisional")

// Stand makes a provisional verdict final: this program has a link where the new one had
// none.
func (a *Agent) Stand() error {
	return a.change(func(p *Phase) error {
		switch {
		case p.Phase == RolledBack && p.IsRefused(p.Digest):
			return nil // it may not have reached the disk
		case !p.Provisional:
			return errDecided
		}
		p.Provisional = false
		p.refuse(p.Digest)
		return nil
	})
}

// Withdraw takes a provisional verdict back: this program has no link either. Switch may
// follow when there is one, twice; after that the release is refused.
func (a *Agent) Withdraw() error {
	return a.change(func(p *Phase) error {
		switch {
		case p.Phase == Undecided:
			return nil // it may not have reached the disk
		case !p.Provisional:
			return errDecided
		}
		p.Provisional = false
		p.Phase, p.Last.Outcome = Undecided, Undecided
		if p.Trials >= maxTrials {
			p.refuse(p.Digest)
		}
		return nil
	})
}

// Untold returns how the last update ended and the command that asked for it, nil for none,
// if that is decided and was not told yet.
func (a *Agent) Untold() (Last, *Command, bool) {
	p, err := a.Phase()
	if err != nil || p.Last == nil || p.Last.Told || p.Provisional {
		return Last{}, nil, false
	}
	return *p.Last, p.Command, true
}

// Told records that it was told. Call it when what tells it cannot be lost any more.
func (a *Agent) Told() error {
	return a.change(func(p *Phase) error {
		if p.Last == nil {
			return errors.New("nothing to be told")
		}
		p.Last.Told, p.Command = true, nil
		return nil
	})
}
