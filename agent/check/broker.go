package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
)

// reach is how long one broker may take to answer.
const reach = 10 * time.Second

// Broker visits each of the brokers.
type Broker struct {
	Link mqtt.Config // but for its broker
	URLs mqtt.URLs
}

// Run implements Check. Where one of several answers the device has a link: that the others
// do not is a warning.
func (b Broker) Run(ctx context.Context) Finding {
	const check = "broker"
	remedy := "start the broker, or mend broker.url, the network, the name's address, user or certificates; " +
		"`limber broker check` says more once it answers"
	var reached []string
	var faults []error
	for i, url := range b.URLs {
		name := b.URLs[i : i+1].Redacted().String()
		began := time.Now()
		if err := b.visit(ctx, url); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
			continue
		}
		reached = append(reached, fmt.Sprintf("%s answers (%v)", name, time.Since(began).Round(time.Millisecond)))
	}
	err := errors.Join(faults...)
	switch {
	case err == nil:
		return holds(check, Error, "%s", strings.Join(reached, ", "))
	case len(reached) > 0:
		return fails(check, Warning, remedy, "%s, but %s", strings.Join(reached, ", "), oneLine(err))
	}
	return fails(check, Error, remedy, "%s", oneLine(err))
}

func (b Broker) visit(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	cfg := b.Link
	cfg.Broker = url
	_, err := knock(ctx, cfg)
	return err
}

// oneLine is an error of several without their line breaks.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
