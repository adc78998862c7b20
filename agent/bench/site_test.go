package bench

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Whoever reads only the first lines, as with `| head`, kills the benchmark.
func TestABenchmarkThatIsKilledLeavesNoBrokerBehind(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, "site", t.TempDir(), addr)
	c.Stderr = t.Output()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() { c.Process.Kill() })
	mustPoll(t, "the broker to listen", func() bool { return listens(addr) })
	c.Process.Kill()
	<-ended
	mustPoll(t, "the broker to end", func() bool { return !listens(addr) })
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	return err == nil && c.Close() == nil
}

// mustSite is a site without an agent.
func mustSite(t *testing.T) *site {
	t.Helper()
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{dir: t.TempDir(), url: "mqtt://" + addr, self: desk.Self(), stderr: t.Output()}
	ctx := context.WithoutCancel(t.Context()) // until the cleanup
	if err := s.startBroker(ctx, addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(ctx); err != nil {
			t.Error(err)
		}
	})
	mustPoll(t, "the broker to listen", func() bool { return listens(addr) })
	return s
}

// mustAnswer is work beside a device that answers each frame as it is told, by its
// id.
func mustAnswer(t *testing.T, s *site, answer func(id string) wire.Result, work func(context.Context, *desk.Client) error) {
	t.Helper()
	over := errors.New("over")
	err := desk.Connect(t.Context(), s.url, t.Output(), []string{s.self.Filter(wire.KindJob)},
		func(ctx context.Context, device *fleet.Mailbox) error {
			g, gctx := errgroup.WithContext(ctx)
			g.Go(func() error { return answers(gctx, device, s.self, answer) })
			g.Go(func() error {
				err := desk.Connect(gctx, s.url, t.Output(), desk.ClientFilters(s.self), func(ctx context.Context,
					st *fleet.Mailbox) error {
					return work(ctx, desk.NewClient(st, s.self))
				})
				return errors.Join(err, over)
			})
			if err := g.Wait(); err.Error() != over.Error() {
				return err
			}
			return nil
		})
	if err != nil {
		t.Error(err)
	}
}

func answers(ctx context.Context, device *fleet.Mailbox, self wire.Address, answer func(id string) wire.Result) error {
	for {
		m, err := device.Next(ctx)
		if err != nil {
			return nil // the test is over
		}
		t, err := wire.ParseTopic(m.Topic)
		if err != nil {
			return err
		}
		r := answer(t.ID)
		r.ID, r.TS = t.ID, wire.At(time.Now())
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := desk.Sent(device.Send(ctx, mqtt.Message{Topic: self.Result(t.ID), Payload: b,
			QoS: 1})); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
