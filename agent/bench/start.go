package bench

import (
	"bufio"
	"bytes"
	"context"
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

	"github.com/limber-edge/limber/agent/bench/desk"
	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/family/stock"
	"github.com/limber-edge/limber/family/workshop"
)

// start measures how long a process takes from nothing to its first answer,
// against what no agent can do without: loading the runtime and the smallest
// session, and one run. Both are processes of their own, in turns.
func (b *Bench) start(ctx context.Context, rt *ort.Runtime) (figure.Figure, error) {
	model, err := b.smallest(rt)
	if err != nil {
		return figure.Figure{}, err
	}
	state := filepath.Join(b.Dir, "state")
	ours, base, err := inRounds(Rounds+1, b.telling("start", Rounds+1), func() (mine, bare float64, err error) {
		mine, _, err = child(ctx, "coldstart", "--state", state)
		if err == nil {
			_, bare, err = child(ctx, "coldstart", "--model", model)
		}
		return mine, bare, err
	})
	if err != nil {
		return figure.Figure{}, err
	}
	ours, base = ours[1:], base[1:] // the first one prepares the state
	return figure.New("core", "start to first answer", "ms", ours, base, 1.5, 1.1), nil
}

// smallest writes the smallest stock member as an optimised model.
func (b *Bench) smallest(rt *ort.Runtime) (string, error) {
	f, err := stock.Family()
	if err != nil {
		return "", err
	}
	net, err := supernetOf(&f.Family, f)
	if err != nil {
		return "", err
	}
	sub, err := net.Member(f.Members[0], f)
	if err != nil {
		return "", err
	}
	model, err := sub.Model(1)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.Dir, "smallest.onnx")
	return path, rt.Optimize(model, path, shapeOf(sub), ort.DefaultOptions())
}

func shapeOf(sub *ofa.Subnet) ort.Shape {
	return ort.Shape{Input: ofa.InputName, R: sub.Arch().R, Output: ofa.OutputName, Classes: sub.Classes()}
}

// child runs this program and returns the milliseconds until its first line, and the
// number in that.
func child(ctx context.Context, args ...string) (ms, said float64, err error) {
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

// BareStart loads runtime and session, the stock family's smallest member, and runs
// once. It prints how long that took, in milliseconds.
func BareStart(w io.Writer, model string) error {
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

// ColdStart runs an agent without a broker until it has answered one frame. It
// prints how long that took, in milliseconds.
func ColdStart(ctx context.Context, w io.Writer, state, version string, trial resident.Guard) (err error) {
	begin := time.Now()
	const nobody = "mqtt://127.0.0.1:9"
	d, err := desk.Open(desk.Options{Version: version, Trial: trial, State: state, Broker: nobody,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	var frame bytes.Buffer
	if err := png.Encode(&frame, image.NewNRGBA(image.Rect(0, 0, 32, 32))); err != nil {
		return err
	}
	if err := d.Answer(ctx, frame.Bytes()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%.3f\n", float64(time.Since(begin))/1e6)
	return err
}
