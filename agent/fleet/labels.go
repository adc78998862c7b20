package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// LabelChange is what is to become of a label: a value, or "" for none.
type LabelChange struct{ Key, Value string }

// ParseLabel reads KEY=VALUE, or KEY- for a label that is to go.
func ParseLabel(s string) (LabelChange, error) {
	key, value, set := strings.Cut(s, "=")
	if !set {
		var gone bool
		if key, gone = strings.CutSuffix(s, "-"); !gone {
			return LabelChange{}, fmt.Errorf("%.80q is no label: want KEY=VALUE, or KEY- to take one away", s)
		}
	}
	if !wire.ValidName(key) || set && !wire.ValidName(value) {
		return LabelChange{}, fmt.Errorf("%.80q is no label: key and value must be [A-Za-z0-9_.-]{1,64}", s)
	}
	return LabelChange{key, value}, nil
}

// LabelFilters is what a client must subscribe to for SetLabels.
func LabelFilters(fleet string) []string { return ListFilters(fleet) }

// SetLabels changes labels of a device, which need not have been there yet, and returns
// all that it has then. Others may label it at the same time: each writes what it read
// with its own changes. Who writes last of those sees the others, and fails.
func (c *Client) SetLabels(ctx context.Context, fleet, device string, changes []LabelChange,
	patience time.Duration) (map[string]string, error) {
	if _, err := c.List(ctx); err != nil {
		return nil, err
	}
	l, end := c.labelling(device, changes)
	defer end()
	if maps.Equal(l.before, l.wanted) {
		return l.wanted, nil
	}
	labels := wire.Labels{Labels: l.wanted}
	if err := labels.Check(); err != nil {
		return nil, err
	}
	m := mqtt.Message{Topic: wire.Address{Fleet: fleet, Device: device}.Labels(), QoS: 1, Retained: true}
	if len(l.wanted) > 0 { // else nothing is to be retained
		var err error
		if m.Payload, err = json.Marshal(labels); err != nil {
			return nil, fmt.Errorf("labels: %w", err)
		}
	}
	if err := c.put(ctx, m, wire.KindLabels, device, patience); err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	return l.wanted, l.err()
}

// labelling is a change of labels under way.
type labelling struct {
	device         string
	before, wanted map[string]string

	mu      sync.Mutex // guards what follows, and what is above until it is known
	crossed bool       // another operator's came in between
	back    bool       // the change itself came back
}

// labelling begins to listen and only then reads what there is: nothing comes in between
// unseen.
func (c *Client) labelling(device string, changes []LabelChange) (l *labelling, end func()) {
	l = &labelling{device: device}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := c.router.wait(l.take, route{wire.KindLabels, device})
	l.before = c.registry.Device(device).Labels
	l.wanted = maps.Clone(l.before)
	if l.wanted == nil {
		l.wanted = map[string]string{}
	}
	for _, change := range changes {
		if change.Value == "" {
			delete(l.wanted, change.Key)
		} else {
			l.wanted[change.Key] = change.Value
		}
	}
	return l, func() { c.router.end(w) }
}

// take looks at labels that came. It goes on after the last.
func (l *labelling) take(_ wire.Topic, m mqtt.Message) (last bool) {
	var got wire.Labels
	if len(m.Payload) > 0 && wire.Decode(m.Payload, &got) != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case maps.Equal(got.Labels, l.wanted):
		l.back = true
	case !l.back && !maps.Equal(got.Labels, l.before):
		l.crossed = true
	}
	return false
}

// err tells whether labels of others may be lost.
func (l *labelling) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.crossed {
		return nil
	}
	return fmt.Errorf("another operator labelled %s at the same time, and what they set is likely lost: "+
		"look at `limber fleet label %s`, and tell them", l.device, l.device)
}

// put publishes what is to be retained of a device, and waits for it to come back.
// Patience is for that; without an answer it may be retained all the same.
func (c *Client) put(ctx context.Context, m mqtt.Message, kind wire.Kind, device string, patience time.Duration) error {
	back := newEcho(m)
	err := c.ask(ctx, m, patience, func(t wire.Topic, got mqtt.Message) bool {
		back.hear(t, got)
		return back.came()
	}, route{kind, device})
	switch {
	case err != nil:
		return err
	case !back.came() && ctx.Err() == nil:
		return errors.New("the broker has not handed it on: is the link slow? See whether it is there")
	}
	return ctx.Err()
}
