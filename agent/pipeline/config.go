package pipeline

import (
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/family"
)

// Member is one sub-network the pipeline may use.
type Member struct {
	governor.Member
	R     int           // input resolution, pixels a side
	Batch time.Duration // unloaded, for governor.Batch images at once; 0: it takes one only
	// Probabilities says that the member gives these, and no logits of which a
	// softmax makes them.
	Probabilities bool
}

// Config of a pipeline.
type Config struct {
	Members    []Member // by rising latency and accuracy
	Classes    int      // logits, or probabilities, of every member
	Decoder    Decoder  // nil: frame.Decoder with its default limit
	Preprocess family.Preprocess
	Mode       governor.Mode
	// that this pipeline may use beside the one that infers; 0: decoding and inference take turns
	Processors int
	// Begin is called first by each goroutine that decodes or infers, which ends with Run; nil:
	// nothing is
	Begin      func()
	QueueJobs  int              // jobs that may wait
	QueueBytes int              // bytes of encoded frames that may wait
	Log        Log              // of decisions
	Counters   *Counters        // where jobs are counted; nil is one of its own
	Tables     *governor.Tables // shared with other pipelines; nil: with none

	// Cascade is the probability from which on the smallest member's answer is
	// taken, in (0, 1]; below it the member that was chosen runs as well. 0 is no
	// cascade.
	Cascade float64
}

// Decoder makes pictures of frames. A frame.Decoder is one.
type Decoder interface {
	// Inspect judges a frame by its header. It is called by who submits the job,
	// and must take microseconds.
	Inspect(body []byte, claim frame.Claim) (frame.Header, error)
	// Decode fills a picture, at 1/scale of its size.
	Decode(dst *frame.Picture, body []byte, h frame.Header, scale int) error
}

// Log is where decisions are logged, to be replayed elsewhere.
type Log struct {
	Path    string // of the newer of two files; empty: nowhere
	Bytes   int64  // of both at most, from 1 MiB
	Version string // of the program
}

// check joins what the governor does not look at.
func (c *Config) check() error {
	var errs []error
	for _, m := range c.Members {
		if m.R < 1 {
			errs = append(errs, fmt.Errorf("member %s: resolution %d: wants pixels a side", m.Name, m.R))
		}
	}
	if c.Classes < 1 {
		errs = append(errs, fmt.Errorf("%d classes: wants at least one", c.Classes))
	}
	if !(c.Cascade >= 0 && c.Cascade <= 1) {
		errs = append(errs, fmt.Errorf("a cascade from a probability of %v: wants one in [0, 1]", c.Cascade))
	}
	if c.Processors < 0 {
		errs = append(errs, fmt.Errorf("%d processors beside inference: wants none or some", c.Processors))
	}
	if c.QueueJobs < 1 || c.QueueBytes < 1 {
		errs = append(errs, fmt.Errorf("a queue of %d jobs and %d bytes: wants room", c.QueueJobs, c.QueueBytes))
	}
	return errors.Join(errs...)
}
