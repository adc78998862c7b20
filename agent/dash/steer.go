package dash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/wire"
)

// The times of a command.
const (
	answerTime = 10 * time.Second // that a device, or the controller, may take for an answer
	sendTime   = 5 * time.Second  // that the broker may take beside that
	denialTime = time.Minute      // for which a drop counts for all: the broker may allow other things, and may learn
)

// errDown says that there is no broker to send anything to.
var errDown = errors.New("there is no connection to the broker; nothing was sent")

// try answers who has the token that it is the right one.
func (s *Server) try(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, outcome{State: wire.CommandSucceeded})
}

// aim sets the mode or the goal of a device, and answers what became of that there.
func (s *Server) aim(w http.ResponseWriter, r *http.Request) {
	name, verb := r.PathValue("name"), r.PathValue("verb")
	if !wire.ValidName(name) || verb != wire.VerbMode && verb != wire.VerbGoal {
		refuse(w, http.StatusNotFound, fmt.Errorf("want the mode or the goal of a device, not %.80q of %.80q", verb, name))
		return
	}
	command, err := readAim(r.Body, verb)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s.carryOut(w, r, func(ctx context.Context) (outcome, error) {
		outcomes, err := s.remote.Command(ctx, s.cfg.Fleet, name, command, answerTime)
		if err != nil {
			return outcome{}, err
		}
		o := outcomes[0] // the device was listed
		return outcome{State: o.State, Reason: o.Reason, Detail: o.Detail, Nearest: o.Nearest}, nil
	})
}

// readAim reads the body of a request of a verb.
func readAim(body io.Reader, verb string) (c wire.Command, err error) {
	var asked aimBody
	if err := readBody(body, &asked); err != nil {
		return c, err
	}
	c = wire.Command{Mode: asked.Mode, Goal: asked.Goal}
	return c, c.Check(verb)
}

// readBody reads a body of JSON.
func readBody[B aimBody | actBody](body io.Reader, b *B) error {
	read, err := io.ReadAll(io.LimitReader(body, wire.MaxControl+1))
	if err == nil {
		err = wire.Decode(read, b)
	}
	if err != nil {
		return fmt.Errorf("the body cannot be read: %w", err)
	}
	return nil
}

// act has the controller do something with a rollout, and answers what it said.
func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	id, action := r.PathValue("id"), r.PathValue("action")
	allowed := []string{wire.RolloutPause, wire.RolloutResume, wire.RolloutApprove, wire.RolloutAbort}
	if !wire.ValidName(id) || !slices.Contains(allowed, action) {
		refuse(w, http.StatusNotFound, fmt.Errorf("want one of %v of a rollout, not %.80q of %.80q", allowed, action, id))
		return
	}
	var asked actBody
	err := readBody(r.Body, &asked)
	if err == nil && asked.Rollback && action != wire.RolloutAbort {
		err = errors.New("rollback: it is of abort alone")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s.carryOut(w, r, func(ctx context.Context) (outcome, error) {
		if err := s.remote.Find(ctx); err != nil {
			return outcome{}, err
		}
		command := wire.RolloutCommand{Action: action, Rollout: id, Rollback: asked.Rollback}
		ack, err := s.remote.Do(ctx, command, answerTime, nil)
		if refusal, ok := errors.AsType[*wire.Refusal](err); ok {
			return outcome{State: ack.State, Reason: refusal.Reason, Detail: refusal.Error()}, nil
		}
		return outcome{State: ack.State, Detail: ack.Detail}, err
	})
}

// carryOut gives a command and answers what became of it.
func (s *Server) carryOut(w http.ResponseWriter, r *http.Request, give func(context.Context) (outcome, error)) {
	if !s.link.now().OK {
		refuse(w, http.StatusServiceUnavailable, errDown)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime+sendTime)
	defer cancel()
	o, err := give(ctx)
	if err == nil {
		s.denied.Store(nil)
	} else if errors.Is(err, fleet.ErrDropped) {
		s.denied.Store(new(time.Now()))
	}
	switch {
	case err == nil:
		answer(w, http.StatusOK, o)
	case errors.Is(err, fleet.ErrDropped):
		refuse(w, http.StatusForbidden, fmt.Errorf("%w; start `limber dash` as an operator: --cert-file and --key-file, "+
			"or --user, name one", err))
	case errors.Is(err, controller.ErrAbsent), ctx.Err() == nil:
		refuse(w, http.StatusConflict, err)
	default:
		refuse(w, http.StatusServiceUnavailable, fmt.Errorf("no answer within %v: %w", answerTime+sendTime, err))
	}
}
