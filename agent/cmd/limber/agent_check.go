package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/store"
)

// printCheck prints the configuration as TOML, and what it leads to as
// comments. A state that is not there stays so; one that is there gets the stock
// family of this program, as at a start, if its own is an older one.
func printCheck(w io.Writer, cfg agent.Config) error {
	b, err := cfg.Marshal()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	fmt.Fprintf(w, "%s\n", b)
	if say := cfg.Schedule.Say(time.Now()); say != "" {
		fmt.Fprintf(w, "# schedule: %s; unless an operator set another after that\n", say)
	}
	if path, err := ort.Find(); err != nil {
		fmt.Fprintf(w, "# no inference: %v\n", err)
	} else {
		fmt.Fprintf(w, "# ONNX Runtime %s\n", path)
	}
	if _, err := os.Stat(filepath.Join(cfg.State, "limber.db")); err != nil {
		_, err = fmt.Fprintln(w, "# no state yet: the first start installs the stock family and measures it")
		return err
	}
	deps, err := openDevice(cfg, store.Options{}, slog.New(slog.DiscardHandler))
	if errors.Is(err, store.ErrLocked) {
		_, err = fmt.Fprintln(w, "# the state is in use: an agent is running")
		return err
	} else if err != nil {
		return err
	}
	defer deps.Close()
	if mode, err := governor.ParseMode(cfg.Mode); err == nil && mode.Member() != "" &&
		deps.Family.Index(mode.Member()) < 0 {
		fmt.Fprintf(w, "# mode %s: the family has no member of that name; balanced will be used\n", cfg.Mode)
	}
	return printState(w, cfg, deps)
}

func printState(w io.Writer, cfg agent.Config, d *agent.Deps) error {
	fmt.Fprintf(w, "# family %s (%s), %d members\n", d.Family.Name, d.Family.Digest().Short(), len(d.Family.Members))
	if d.Open == nil {
		return nil
	}
	profile, err := d.StoredProfile(cfg)
	if err != nil {
		return err
	}
	if profile == nil {
		_, err = fmt.Fprintln(w, "# no profile of this device yet: the next start takes one")
		return err
	}
	_, err = fmt.Fprintf(w, "# profile of %s, %s\n", profile.Taken.Format("2006-01-02 15:04:05 MST"), others(profile))
	return err
}

// others says under what load a profile was taken.
func others(p *family.Profile) string {
	if p.OthersPercent == nil {
		return "CPU of other processes unknown"
	}
	return fmt.Sprintf("other processes used %.0f %% of the CPU", *p.OthersPercent)
}

func printProfile(w io.Writer, f *family.Family, p *family.Profile) error {
	fmt.Fprintf(w, "%s, ONNX Runtime %s, %s, %d runs each, %s\n\n", p.Taken.Format("2006-01-02 15:04:05 MST"), p.Runtime,
		p.Options, p.Rounds, others(p))
	used := map[int]bool{}
	for _, i := range p.Front(f) {
		used[i] = true
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "member\ttop-1 %\tp50 ms\tp95 ms\tvariation %\tin use")
	for i, m := range p.Members {
		use := "yes"
		if m.Fault != "" {
			use = "no: " + m.Fault
		} else if !used[i] {
			use = "no: another is faster and more accurate here"
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.3f\t%.3f\t%.1f\t%s\n", m.Name, 100*f.Members[i].Top1, m.P50ms, m.P95ms, 100*m.CV, use)
	}
	return t.Flush()
}
