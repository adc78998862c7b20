package desk

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
)

func TestABrokerThatIsNotThereIsNamed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := Connect(ctx, "mqtt://127.0.0.1:1", t.Output(), nil, func(context.Context, *fleet.Mailbox) error {
		t.Error("work began without a broker")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "broker mqtt://127.0.0.1:1: ") {
		t.Errorf("got %v, want an error that names the broker", err)
	}
}

func TestAMessageIsSentUnlessItFailedAtOnce(t *testing.T) {
	failed := make(chan error, 1)
	failed <- errors.New("too large")
	if waiting, broken := Sent(make(chan error)), Sent(failed); waiting != nil || broken == nil {
		t.Errorf("got %v while nothing is known and %v after a failure, want the failure alone", waiting, broken)
	}
}

func TestAWaitEndsAtItsMomentOrWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := Wait(t.Context(), began.Add(time.Second)); err != nil || time.Since(began) != time.Second {
			t.Errorf("got %v after %v, want a second", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Wait(ctx, time.Now().Add(time.Hour)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the context ended", err)
		}
	})
}
