// Package agent joins the parts of one device: uplink delivers, engine serves,
// control decides.
//
//	                    Request                     Answer
//	broker ──▶ uplink ──┬──▶ jobs ──▶ engine ──────▶ jobs ──▶ uplink ──▶ broker
//	                    │               ▲
//	                    └──▶ control ───┘ SetMode
//	                            │
//	                documents: state, caps and reported are functions of what
//	                engine and control say of themselves; telemetry is published
//
// A frame has eight stops between the socket and its published result:
//
//	1 mqtt/stream.go      bytes of the socket, judged by limiter.go, become a Message
//	2 uplink/inbox.go     a Request, unless it is known by its id and bytes
//	3 jobs.go             header and body are told apart, the deadline is set
//	4 engine/submit.go    the backend that serves now takes the job: pipeline/queue.go
//	5 pipeline/decode.go  the picture becomes a tensor
//	6 pipeline/infer.go   the governor chooses a member, whose session infers
//	7 jobs.go             the answer becomes a result in the outbox
//	8 uplink/deliver.go   records leave in order, through mqtt/session.go
//
// A command for a mode has nine:
//
//	1 mqtt/stream.go      as above
//	2 uplink/inbox.go     as above
//	3 control/queue.go    it waits for the goroutine of its class
//	4 control/control.go  the ledger is asked, the command read, its expiry set
//	5 control/target.go   the target says whether it can be had
//	6 store               the ledger has `executing`; accepted and executing are told
//	7 engine/engine.go    the supervisor sets it, in pipeline/infer.go
//	8 store               the ledger has the last state, and the mode is remembered
//	9 uplink/deliver.go   as above
//
// The link starts first, so that a device which measures its members says how far
// it is. Everything stops in the order of the arrows: no new requests, then those
// that wait are answered, their answers sent, the farewell published, the link
// closed, and last the outbox committed.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/control"
	"github.com/limber-edge/limber/agent/engine"
	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/firmware/power"
)

// ErrHung ends Run when only a new process helps: see engine.ErrHung.
var ErrHung = engine.ErrHung

// Agent is one device.
type Agent struct {
	cfg     Config
	deps    *Deps
	log     *slog.Logger
	uplink  *uplink.Uplink
	engine  *engine.Engine
	control *control.Control
	jobs    *jobs
}

// How long a stopping agent works on what it has, and then tries to say so.
const (
	grace    = 1500 * time.Millisecond
	farewell = time.Second // to connect, if need be, and for the broker's acknowledgement
)

// New assembles an agent and checks its configuration. It starts nothing, and
// closes none of the parts.
func New(cfg Config, deps *Deps, log *slog.Logger) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	id := make([]byte, 8)
	rand.Read(id) // never fails, since Go 1.24
	a := &Agent{cfg: cfg, deps: deps, log: log}
	boot := hex.EncodeToString(id)
	if err := a.connect(boot); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if err := a.serve(); err != nil {
		return nil, err
	}
	a.jobs = newJobs(cfg, boot, a.uplink, a.engine)
	return a, nil
}
