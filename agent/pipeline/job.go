package pipeline

import (
	"time"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

// Job is one frame to classify.
type Job struct {
	Body     []byte        // an encoded frame
	Claim    frame.Claim   // what the sender says of it
	Tensor   []float32     // instead of Body: already preprocessed, 3×R×R for the mode's one member
	Received time.Time     // when the deadline began to count
	Deadline time.Duration // from Received
	Floor    float64       // least top-1 the sender accepts, a fraction; 0 is none
	Priority Priority      // served before those of lower priority, however urgent these are
	Source   string        // who sent it; those that name none are one source
	Counted  bool          // another pipeline of the same Counters took it, and abandoned it
	Latest   bool          // a newer one of its source may take its place, where more wait than can be in time
	Answer   func(*Answer) // called exactly once, from a goroutine of the pipeline or of Submit; must not block
}

// Priority is the class of a job.
type Priority int8

// The zero Priority is Normal.
const (
	Low Priority = iota - 1
	Normal
	High
)

// Answer is what became of a job. It is valid until the call it was passed to
// returns.
type Answer struct {
	Reason wire.Reason // why it was refused, or empty
	Detail string      // of a refusal, for a human

	Member    int             // index of the member that answered
	Choice    governor.Reason // why that member
	Top       []Class         // the best classes, best first, at most five
	Predicted time.Duration   // of Member's run, when the member was chosen
	First     int             // of a cascade: index of the member that ran first, which may be Member
	FirstP    float64         // of a cascade: the probability of its best class; else 0
	Abandoned bool            // refused because the pipeline ended before its turn
	Batch     int             // jobs that were inferred at once, this one among them; 0 if none was
	// Superseded: a newer frame of its source took its place. It is no refusal,
	// and nobody gets a result.
	Superseded bool

	Queue, Decode, Infer time.Duration // spent waiting, decoding, inferring
	Total                time.Duration // from receipt to this answer
	Met                  bool          // answered, and Total is within the deadline
}

// Class is one entry of an answer.
type Class struct {
	Index int
	P     float64 // probability: the softmax of the logits, or what the member gave
}
