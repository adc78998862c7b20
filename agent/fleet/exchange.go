package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Frames are what an Exchange sends to a device.
type Frames struct {
	To       wire.Address
	Header   wire.Header                       // of each job
	Names    []string                          // for people, in the order in which they are sent
	Read     func(name string) ([]byte, error) // the frame of a name
	Patience time.Duration                     // between one answer and the next
	Answer   func(name string, a Answer) error // called in the order of Names; its error ends the exchange
	Progress func(answered int)                // called whenever that changes, and at first
}

// Answer is a device's answer to a frame.
type Answer struct {
	Payload []byte // as it came
	Result  wire.Result
}

// Exchange sends frames, some ahead of the answers, and hands on the answers in the
// order of the frames. Each frame's id ends in its number, from 0. It fails when no
// answer comes for Patience, with the answers handed on that did come.
func (c *Client) Exchange(ctx context.Context, f Frames) error {
	x := &exchange{Frames: f, client: c, batch: NewID()[:12], came: make(chan arrival, UnderWay),
		open: map[int]*waiter{}, answers: map[int]Answer{}}
	defer func() { // nobody waits for what is still under way
		for _, w := range x.open {
			c.router.end(w)
		}
	}()
	for x.answered < len(x.Names) {
		x.Progress(x.answered)
		for len(x.sizes) < len(x.Names) && len(x.sizes) < x.answered+UnderWay {
			if err := x.send(ctx); err != nil {
				return err
			}
		}
		if err := x.receive(ctx); err != nil {
			return err
		}
		if err := x.handOn(); err != nil {
			return err
		}
	}
	return nil
}

// exchange is frames for answers.
type exchange struct {
	Frames
	client *Client
	batch  string // what the ids begin with

	came     chan arrival    // holds as many as are under way, each once
	open     map[int]*waiter // frames under way, by number
	sizes    []int           // bytes of the jobs that were sent, by number
	took     int             // bytes of the largest that was answered
	answers  map[int]Answer  // that wait for those of the frames before
	answered int
	handed   int // how many answers were handed on, or given up
}

// arrival is the answer to the frame of a number.
type arrival struct {
	number  int
	payload []byte
}

// UnderWay is how many frames an Exchange sends ahead of the answers. Each frame's
// deadline runs from its receipt: all at once, the last ones would be late.
const UnderWay = 8

func (x *exchange) send(ctx context.Context) error {
	number := len(x.sizes)
	name, id := x.Names[number], fmt.Sprintf("%s-%d", x.batch, number)
	body, err := x.Read(name)
	if err != nil {
		return err
	}
	job, err := wire.JoinJob(x.Header, body)
	if err != nil {
		return fmt.Errorf("frame %s: %w", name, err)
	}
	x.open[number] = x.client.router.wait(func(_ wire.Topic, m mqtt.Message) bool {
		x.came <- arrival{number, m.Payload} // does not wait: each frame under way has its place
		return true
	}, route{wire.KindResult, id})
	ctx, cancel := context.WithTimeout(ctx, x.Patience)
	defer cancel()
	if err := x.client.publishJob(ctx, mqtt.Message{Topic: x.To.Job(id), Payload: job, QoS: 1}); err != nil {
		return fmt.Errorf("frame %s was not sent: %w", name, err)
	}
	x.sizes = append(x.sizes, len(job))
	return nil
}

// breaksMost is how many connections may break over one frame. A link breaks now
// and then; a broker closes each that brings what is over its limit.
const breaksMost = 3

// publishJob sends a job, anew if the connection breaks meanwhile: the device answers
// an id once, however often it comes.
func (c *Client) publishJob(ctx context.Context, m mqtt.Message) error {
	var seq uint64
	for breaks := 1; ; breaks++ {
		var err error
		if seq, err = c.Connection(ctx, seq); err != nil {
			return mqtt.ErrDown // the last one broke, and there is no other
		}
		switch err = c.Publish(ctx, m); {
		case !errors.Is(err, mqtt.ErrDown):
			return err
		case breaks == breaksMost:
			return fmt.Errorf("%d connections, one after the other, broke over it: "+
				"with %d bytes it is likely over the broker's limit "+
				"(mosquitto: max_packet_size); raise that, or send a smaller picture", breaks, len(m.Payload))
		}
	}
}

func (x *exchange) receive(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, x.Patience)
	defer cancel()
	select {
	case <-wait.Done():
		return x.givenUp(ctx)
	case got := <-x.came:
		delete(x.open, got.number)
		a := Answer{Payload: got.payload}
		if err := wire.Decode(got.payload, &a.Result); err != nil {
			return fmt.Errorf("answer to %s: %w", x.Names[got.number], err)
		}
		x.answers[got.number], x.took = a, max(x.took, x.sizes[got.number])
		x.answered++
		return nil
	}
}

// handOn hands on the answers whose turn it is.
func (x *exchange) handOn() error {
	for {
		a, ok := x.answers[x.handed]
		if !ok {
			return nil
		}
		delete(x.answers, x.handed)
		if err := x.Answer(x.Names[x.handed], a); err != nil {
			return err
		}
		x.handed++
	}
}

// givenUp hands on the answers that waited for those that will not come.
func (x *exchange) givenUp(ctx context.Context) error {
	missing := len(x.Names) - x.answered
	for ; x.handed < len(x.sizes); x.handed++ {
		if err := x.handOn(); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped with %d of %d frames unanswered", missing, len(x.Names))
	}
	return fmt.Errorf("%d of %d frames were not answered: nothing came for %v; "+
		"see `limber fleet ls` whether the device is there, and the access list whether this name may send it jobs%s",
		missing, len(x.Names), x.Patience, x.dropped())
}

// dropped names what a broker may have dropped without a word; nothing if one as
// large was answered.
func (x *exchange) dropped() string {
	largest := 0
	for number := range x.open {
		largest = max(largest, x.sizes[number])
	}
	if largest <= x.took {
		return ""
	}
	return fmt.Sprintf(", and the broker's limit: it may have dropped one of %d bytes without a word "+
		"(mosquitto: message_size_limit)", largest)
}
