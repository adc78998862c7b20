package brokercheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// largest is a payload that makes a packet of nearly 16 MiB: topic and header have
// room beside it.
const largest = 16<<20 - 1<<10

func packet(ctx context.Context, p probe) (string, error) {
	job := topic("packet", "job/1")
	c, err := p.open(ctx, "packet", subscribed(job))
	if err != nil {
		return "", err
	}
	defer c.close()
	if err := c.Publish(ctx, mqtt.Message{Topic: job, QoS: 1, Payload: bytes.Repeat([]byte{0xff}, largest)}); err != nil {
		return "", fmt.Errorf("16 MiB do not pass: %w", err)
	}
	m, err := c.await(ctx, job)
	switch {
	case err != nil:
		return "", errors.New("16 MiB are taken and not delivered")
	case len(m.Payload) != largest:
		return "", fmt.Errorf("%d of %d bytes pass", len(m.Payload), largest)
	}
	return "16 MiB pass", nil
}

// blobWindows is how many windows of a blob pass.
const blobWindows = 16

// blob has parts of a blob pass as a device pulls them: a window is published when the
// one before it came.
func blob(ctx context.Context, p probe) (string, error) {
	at := wire.Address{Fleet: Fleet, Device: "blob"}
	digest := strings.Repeat("ab", 32)
	c, err := p.open(ctx, "blob", subscribed(at.Filter(wire.KindBlob)), atMostOnce)
	if err != nil {
		return "", err
	}
	defer c.close()
	part := bytes.Repeat([]byte{0xff}, wire.BlobPart)
	const parts = wire.MaxBlobParts / wire.BlobPart
	for i := range int64(blobWindows * parts) {
		if err := c.Publish(ctx, mqtt.Message{Topic: at.Blob(digest, i*wire.BlobPart), Payload: part}); err != nil {
			return "", fmt.Errorf("part %d of a blob: %w", i+1, err)
		}
		if (i+1)%parts > 0 {
			continue
		}
		for j := i + 1 - parts; j <= i; j++ {
			m, err := c.await(ctx, at.Blob(digest, j*wire.BlobPart))
			if err != nil || len(m.Payload) != wire.BlobPart || m.QoS != 0 || m.Retained {
				return "", fmt.Errorf("part %d of %d does not pass as it was sent", j+1, blobWindows*parts)
			}
		}
	}
	return "64 KiB pass with QoS 0, four at a time", nil
}

func wildcard(ctx context.Context, p probe) (string, error) {
	one, rest := topic("+", "wildcard"), topic("wildcard", "job/#")
	filters := []string{one, rest}
	return "+ is one level, # is the rest with the level above", p.match(ctx, "wildcard", filters, map[string]bool{
		topic("a", "wildcard"):           true,
		topic("a", "wildcard/b"):         false,
		topic("a/b", "wildcard"):         false,
		topic("wildcard", "job"):         true,
		topic("wildcard", "job/1"):       true,
		topic("wildcard", "job/1/2"):     true,
		topic("wildcard", "jobs"):        false,
		topic("wildcard", "state"):       false,
		topic("wildcard-other", "job/1"): false,
		topic("wildcard.other", "job/1"): false,
	})
}

func dot(ctx context.Context, p probe) (string, error) {
	filters := []string{topic("+", "state"), topic("a.b", "job/#")}
	return "a device a.b is one level", p.match(ctx, "dot", filters, map[string]bool{
		topic("a.b", "state"):     true,
		topic("a..b", "state"):    true,
		topic(".a", "state"):      true,
		topic("a/b", "state"):     false,
		topic("a.b", "job/x.y"):   true,
		topic("a.b", "job/..x.y"): true,
		topic("a/b", "job/x.y"):   false,
		topic("a", "b/job/x.y"):   false,
	})
}

// match publishes to topics and complains of those that are not delivered although
// the filters match them, and of those that are although they do not. Each check does so
// by an id of its own: some (mochi) take a subscription for that of the client before.
func (p probe) match(ctx context.Context, id string, filters []string, matches map[string]bool) error {
	c, err := p.open(ctx, id, subscribed(append(filters, topic("mark", "job/#"))...))
	if err != nil {
		return err
	}
	defer c.close()
	for t := range matches {
		if err := c.Publish(ctx, mqtt.Message{Topic: t, QoS: 1, Payload: []byte(t)}); err != nil {
			return fmt.Errorf("publish to %s: %w", t, err)
		}
	}
	messages, err := c.pending(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for t, want := range matches {
		got := slices.ContainsFunc(messages, func(m mqtt.Message) bool { return m.Topic == t })
		switch {
		case want && !got:
			errs = append(errs, fmt.Errorf("%s is not delivered", t))
		case got && !want:
			errs = append(errs, fmt.Errorf("%s is delivered to who did not ask for it", t))
		}
	}
	return errors.Join(errs...)
}
