package fleet

import (
	"context"
	"time"
)

// Connection is a Client or a Mailbox.
type Connection interface {
	// Run keeps the connection until ctx ends, which is no error.
	Run(ctx context.Context) error
	// Ready waits until the connection stands; its error names why it does not.
	Ready(ctx context.Context) error
}

// Connected runs a connection beside work that needs it, and ends it when work has
// returned. One that does not stand within the time is an error, as absent words it.
func Connected(ctx context.Context, c Connection, within time.Duration, work func(context.Context) error,
	absent func(error) error) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	wait, stop := context.WithTimeout(ctx, within)
	defer stop()
	if err := c.Ready(wait); err != nil {
		return absent(err)
	}
	return work(ctx)
}
