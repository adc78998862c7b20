package brokercheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// rounds are published one after the other; the first of them are not looked at,
// for a kernel does not hold acknowledgements back at once.
const rounds, warmUp = 40, 20

// latency has the broker send a message beside each acknowledgement, as it does to a
// device that has jobs. Where its kernel gathers small packets, the second waits for
// ours to acknowledge the first; nothing is sent from here before that.
func latency(ctx context.Context, p probe) (string, error) {
	job := topic("latency", "job/1")
	c, err := p.open(ctx, "latency", subscribed(job), atMostOnce)
	if err != nil {
		return "", err
	}
	defer c.close()
	var took []time.Duration
	for i := range rounds {
		began := time.Now()
		if err := c.Publish(ctx, mqtt.Message{Topic: job, QoS: 1, Payload: []byte("1")}); err != nil {
			return "", fmt.Errorf("%d of %d acknowledged: %w", i, rounds, err)
		}
		took = append(took, time.Since(began))
	}
	took = took[warmUp:]
	slices.Sort(took)
	usual, network := took[len(took)/2], c.NetworkRoundTrip()
	got := fmt.Sprintf("QoS 1 takes %s, the network %s", inMS(usual), inMS(network))
	if mqtt.HeldBack(usual, network) {
		return "", errors.New(got)
	}
	return got, nil
}

// inMS is a duration of which 0 is unknown.
func inMS(d time.Duration) string {
	if d == 0 {
		return "an unknown time"
	}
	return fmt.Sprintf("%.2f ms", float64(d)/1e6)
}
