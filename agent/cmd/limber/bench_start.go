package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

// start measures how long a process takes from nothing to its first answer,
// against what no agent can do without: loading the runtime and the smallest
// session, and one run. Both are processes of their own, in turns.
func (b *coreBench) start(ctx context.Context, rt *ort.Runtime) (figure, error) {
	model, err := b.smallest(rt)
	if err != nil {
		return figure{}, err
	}
	state := filepath.Join(b.cache, "state")
	var ours, base []float64
	for round := range rounds + 1 {
		b.progress.tell("start", round, rounds+1)
		mine, err := child(ctx, "coldstart", "--state", state)
		if err != nil {
			return figure{}, err
		}
		_, bare, err := childFigure(ctx, "coldstart", "--model", model)
		if err != nil {
			return figure{}, err
		}
		if round > 0 { // the first one prepares the state
			ours, base = append(ours, mine), append(base, bare)
		}
	}
	b.progress.end()
	f := newFigure("core", "start to first answer", "ms", ours, base, 1.5, 1.1)
	return f, nil
}

// smallest writes the smallest stock member as an optimised model.
func (b *coreBench) smallest(rt *ort.Runtime) (string, error) {
	f, err := stock.Family()
	if err != nil {
		return "", err
	}
	members, err := workshop.Members(f)
	if err != nil {
		return "", err
	}
	model, err := members[0].Model(1)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.cache, "smallest.onnx")
	return path, rt.Optimize(model, path, shapeOf(members[0]), ort.DefaultOptions())
}

func shapeOf(sub *ofa.Subnet) ort.Shape {
	return ort.Shape{Input: ofa.InputName, R: sub.Arch().R, Output: ofa.OutputName, Classes: sub.Classes()}
}

// child runs this program and returns the milliseconds until its first line.
func child(ctx context.Context, args ...string) (float64, error) {
	ms, _, err := childFigure(ctx, args...)
	return ms, err
}

// childFigure also returns the number in that line.
func childFigure(ctx context.Context, args ...string) (ms, said float64, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	c := exec.CommandContext(ctx, exe, args...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := c.Start(); err != nil {
		return 0, 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	ms = float64(time.Since(begin)) / 1e6
	if err = errors.Join(err, c.Wait()); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	said, err = strconv.ParseFloat(strings.TrimSpace(line), 64)
	return ms, said, err
}

// newColdStart is the process that the benchmark starts. It prints how long its
// work took, in milliseconds, and ends.
func newColdStart() *cobra.Command {
	var state, model string
	c := &cobra.Command{
		Use:    "coldstart",
		Short:  "Answer one frame and end",
		Args:   exactly(0, "no arguments"),
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if model != "" {
				return bareStart(c.OutOrStdout(), model)
			}
			return agentStart(c.Context(), c.OutOrStdout(), state)
		},
	}
	c.Flags().StringVar(&state, "state", "", "state folder of an agent")
	c.Flags().StringVar(&model, "model", "", "instead of an agent, only load this model of the stock family's smallest member")
	return c
}

// bareStart loads runtime and session and runs once.
func bareStart(w io.Writer, model string) error {
	f, err := stock.Family()
	if err != nil {
		return err
	}
	m := f.Members[0]
	begin := time.Now()
	rt, err := workshop.OpenRuntime()
	if err != nil {
		return err
	}
	o := ort.DefaultOptions()
	o.Optimized = true
	shape := ort.Shape{Input: ofa.InputName, R: m.Arch.R, Output: ofa.OutputName, Classes: len(f.Classes)}
	s, err := rt.NewSession(model, shape, o)
	if err != nil {
		return err
	}
	if err := s.Run(make([]float32, len(f.Classes)), workshop.Noise(3*m.Arch.R*m.Arch.R)); err != nil {
		return err
	}
	fmt.Fprintf(w, "%.3f\n", float64(time.Since(begin))/1e6)
	return errors.Join(s.Close(), rt.Close())
}

// agentStart runs an agent without a broker until it has answered one frame.
func agentStart(ctx context.Context, w io.Writer, state string) (err error) {
	begin := time.Now()
	log := slog.New(slog.DiscardHandler)
	cfg := agent.Default()
	cfg.State, cfg.Broker.URL = state, "mqtt://127.0.0.1:9" // nobody is there
	parts, err := agent.Open(cfg, version, newTrial(), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.Close()) }()
	if parts.Fault != nil {
		return parts.Fault
	}
	dev, err := agent.New(cfg, parts, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	if err := firstAnswer(ctx, dev, parts, wire.Address{Fleet: cfg.Fleet, Device: cfg.Device}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%.3f\n", float64(time.Since(begin))/1e6)
	return err
}

// firstAnswer hands one frame to the agent, as the link would, and waits for
// its result in the outbox.
func firstAnswer(ctx context.Context, dev *agent.Agent, parts *agent.Parts, self wire.Address) error {
	var frame bytes.Buffer
	if err := png.Encode(&frame, image.NewNRGBA(image.Rect(0, 0, 32, 32))); err != nil {
		return err
	}
	select {
	case <-dev.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	id := fleet.NewID()
	dev.Receive(mqtt.Message{Topic: self.Job(id), Payload: frame.Bytes()}, func() {})
	for after := uint64(0); ; {
		records, err := parts.Outbox.Next(ctx, after, 64)
		if err != nil {
			return err
		}
		for _, r := range records {
			after = r.Seq
			if r.Topic != self.Result(id) {
				continue
			}
			var result wire.Result
			if err := json.Unmarshal(r.Payload, &result); err != nil {
				return err
			}
			if result.Status != wire.OK {
				return fmt.Errorf("the first frame was refused: %s", result.Detail)
			}
			return nil
		}
	}
}
