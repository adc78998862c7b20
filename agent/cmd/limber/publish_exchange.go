package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// exchange is frames for answers, printed in the order of the files.
type exchange struct {
	station  *fleet.Station
	self     wire.Address
	header   wire.Header
	files    []string
	patience time.Duration // between one answer and the next
	out      io.Writer
	asJSON   bool
	progress *progress

	ids      map[string]int // of frames under way: the file's number
	sizes    []int          // bytes of the jobs that were sent, by the file's number
	took     int            // bytes of the largest that was answered
	answers  map[int]answer // that wait for those of the files before
	sent     int
	answered int
	printed  int
	refused  int
}

type answer struct {
	payload []byte
	result  wire.Result
}

// underWay is how many frames are sent ahead of the answers. Each frame's
// deadline runs from its receipt: all at once, the last ones would be late.
const underWay = 8

func (x *exchange) run(ctx context.Context) error {
	x.ids, x.answers = map[string]int{}, map[int]answer{}
	batch := fleet.NewID()[:12]
	for x.answered < len(x.files) {
		x.progress.Tell("frames", x.answered, len(x.files))
		for x.sent < len(x.files) && x.sent < x.answered+underWay {
			if err := x.send(ctx, fmt.Sprintf("%s-%d", batch, x.sent)); err != nil {
				return err
			}
		}
		if err := x.receive(ctx); err != nil {
			return err
		}
		if err := x.print(); err != nil {
			return err
		}
	}
	if x.refused > 0 {
		return fmt.Errorf("%d of %d frames were refused", x.refused, len(x.files))
	}
	return nil
}

// send publishes the next file's frame.
func (x *exchange) send(ctx context.Context, id string) error {
	name := x.files[x.sent]
	body, err := readFrame(name)
	if err != nil {
		return err
	}
	job, err := wire.JoinJob(x.header, body)
	if err != nil {
		return fmt.Errorf("frame %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, x.patience)
	defer cancel()
	if err := x.publish(ctx, mqtt.Message{Topic: x.self.Job(id), Payload: job, QoS: 1}); err != nil {
		return fmt.Errorf("frame %s was not sent: %w", name, err)
	}
	x.ids[id], x.sizes = x.sent, append(x.sizes, len(job))
	x.sent++
	return nil
}

// breaksMost is how many connections may break over one frame. A link breaks now
// and then; a broker closes each that brings what is over its limit.
const breaksMost = 3

// publish sends a job, anew if the connection breaks meanwhile: the device answers
// an id once, however often it comes.
func (x *exchange) publish(ctx context.Context, m mqtt.Message) error {
	var seq uint64
	for breaks := 1; ; breaks++ {
		var err error
		if seq, err = x.station.Connection(ctx, seq); err != nil {
			return mqtt.ErrDown // the last one broke, and there is no other
		}
		switch err = x.station.Publish(ctx, m); {
		case !errors.Is(err, mqtt.ErrDown):
			return err
		case breaks == breaksMost:
			return fmt.Errorf("%d connections, one after the other, broke over it: with %d bytes it is likely over the broker's limit "+
				"(mosquitto: max_packet_size); raise that, or send a smaller picture", breaks, len(m.Payload))
		}
	}
}

// receive waits for one of the answers.
func (x *exchange) receive(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, x.patience)
	defer cancel()
	for {
		m, err := x.station.Next(wait)
		if err != nil {
			return x.givenUp(ctx)
		}
		t, err := wire.ParseTopic(m.Topic)
		at, ours := x.ids[t.ID]
		if err != nil || t.Kind != wire.KindResult || !ours {
			continue
		}
		delete(x.ids, t.ID)
		a := answer{payload: m.Payload}
		if err := wire.Decode(m.Payload, &a.result); err != nil {
			return fmt.Errorf("answer to %s: %w", x.files[at], err)
		}
		x.answers[at], x.took = a, max(x.took, x.sizes[at])
		x.answered++
		return nil
	}
}

// givenUp prints the answers that waited for those that will not come.
func (x *exchange) givenUp(ctx context.Context) error {
	missing := len(x.files) - x.answered
	for ; x.printed < x.sent; x.printed++ {
		if a, ok := x.answers[x.printed]; ok {
			if err := x.printOne(x.files[x.printed], a); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped with %d of %d frames unanswered", missing, len(x.files))
	}
	return fmt.Errorf("%d of %d frames were not answered: nothing came for %v; see `limber fleet ls` whether the device is there%s",
		missing, len(x.files), x.patience, x.dropped())
}

// dropped names what a broker may have dropped without a word; nothing if one as
// large was answered.
func (x *exchange) dropped() string {
	largest := 0
	for _, at := range x.ids {
		largest = max(largest, x.sizes[at])
	}
	if largest <= x.took {
		return ""
	}
	return fmt.Sprintf(", and the broker's limit: it may have dropped one of %d bytes without a word (mosquitto: message_size_limit)", largest)
}

// print prints the answers whose turn it is.
func (x *exchange) print() error {
	for {
		a, ok := x.answers[x.printed]
		if !ok {
			return nil
		}
		delete(x.answers, x.printed)
		if err := x.printOne(x.files[x.printed], a); err != nil {
			return err
		}
		x.printed++
	}
}

func (x *exchange) printOne(name string, a answer) error {
	x.progress.End()
	r := a.result
	if r.Status != wire.OK {
		x.refused++
	}
	var err error
	switch {
	case x.asJSON:
		_, err = fmt.Fprintf(x.out, "%s\n", a.payload)
	case r.Status != wire.OK:
		_, err = fmt.Fprintf(x.out, "%s: refused, %s: %s\n", name, r.Reason, r.Detail)
	default:
		_, err = fmt.Fprintf(x.out, "%s: %s\n", name, seen(r))
	}
	return err
}

// seen says what a device saw, and how well.
func seen(r wire.Result) string {
	if len(r.Classes) == 0 || r.MS == nil {
		return "answered, but without classes and times"
	}
	best, late := r.Classes[0], ""
	if !r.Met {
		late = ", late"
	}
	return fmt.Sprintf("%s %.0f %%  (member %s, %.2f ms of %.0f ms%s)", best.Label, 100*best.P, r.Member, r.MS.Total, r.DeadlineMS, late)
}
