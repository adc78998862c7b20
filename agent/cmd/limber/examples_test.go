package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/sim"
)

// example is a command line that people are told of.
type example struct {
	where string // the command whose help has it, or README.md
	line  string
	args  []string // behind "limber"
}

// examples are those of the help of all commands, and of the README.
func examples(t *testing.T) (all []example) {
	t.Helper()
	for c := range everyCommand(newRoot()) {
		all = append(all, examplesIn(c.CommandPath(), c.Example)...)
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for line := range strings.Lines(string(readme)) {
		if text, ok := strings.CutPrefix(line, "    "); ok {
			code.WriteString(text)
		}
	}
	return append(all, examplesIn("README.md", code.String())...)
}

// examplesIn are those in a text of command lines.
func examplesIn(where, text string) (all []example) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		words := shellWords(line)
		for len(words) > 0 {
			end := slices.IndexFunc(words, func(w string) bool { return w == "&&" || w == "&" || w == ">" })
			if end < 0 {
				end = len(words)
			}
			if words[0] == "limber" || words[0] == "bin/limber" {
				all = append(all, example{where, strings.TrimSpace(line), words[1:end]})
			}
			words = words[min(end+1, len(words)):]
		}
	}
	return all
}

// shellWords are the words of a command line as a shell reads it, up to a comment.
func shellWords(line string) (words []string) {
	var word strings.Builder
	var quote rune
	open := false
	end := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, open = r, true
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n'):
			end()
		case quote == 0 && r == '#' && !open:
			return words
		default:
			word.WriteRune(r)
			open = true
		}
	}
	end()
	return words
}

// TestEveryExampleIsACommandLineThatIsTaken reads each, as far as reading goes.
func TestEveryExampleIsACommandLineThatIsTaken(t *testing.T) {
	all := examples(t)
	if len(all) < 100 {
		t.Errorf("only %d examples were found", len(all))
	}
	for _, e := range all {
		c, rest, err := newRoot().Find(e.args)
		if err == nil && c.Flags().Lookup("help") == nil {
			c.InitDefaultHelpFlag()
		}
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if err == nil {
			err = c.ValidateArgs(c.Flags().Args())
		}
		if err != nil || c.HasSubCommands() && c.Flags().NArg() > 0 {
			t.Errorf("%s: `%s`: %v", e.where, e.line, err)
		}
	}
}

// TestEveryExampleOfTheFleetIsRun runs each that only needs a broker and a device, which
// stands in for all that they name.
func TestEveryExampleOfTheFleetIsRun(t *testing.T) {
	var fleets []example
	for _, e := range examples(t) {
		credentials := slices.Contains(e.args, "--ca-file") || slices.Contains(e.args, "--password-file")
		if len(e.args) > 1 && e.args[0] == "fleet" && (e.args[1] == "serve" || e.args[1] == "rollout") {
			continue // which TestEveryExampleOfRolloutsIsRun runs
		}
		if len(e.args) > 1 && e.args[0] == "fleet" && !credentials { // those are tried with the brokers that want them
			fleets = append(fleets, e)
		}
	}
	slices.SortStableFunc(fleets, func(a, b example) int { // what forgets the device comes last
		return strings.Compare(forgets(a), forgets(b))
	})
	d := mustDesk(t)
	t.Chdir(t.TempDir()) // where some write files
	seen := map[string]bool{}
	for _, e := range fleets {
		line := strings.Join(e.args, " ")
		if seen[line] {
			continue
		}
		seen[line] = true
		t.Run(line, func(t *testing.T) { d.runs(t, e) })
	}
}

func forgets(e example) string {
	if e.args[1] == "forget" {
		return "last"
	}
	return ""
}

// TestExamplesThatNeedOnlyThisDeskAreRun runs those of the other commands that take neither
// a supernet, nor pictures to train with, nor minutes of a quiet machine.
func TestExamplesThatNeedOnlyThisDeskAreRun(t *testing.T) {
	all := examples(t)
	d := mustDesk(t)
	png, _ := mustFrame(t, 1)
	picture, err := os.ReadFile(png)
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	t.Chdir(t.TempDir())
	for _, e := range all {
		line := strings.Join(e.args, " ")
		if slices.Contains(e.args, "--server") {
			t.Chdir(t.TempDir()) // certificates begin anew
		}
		mustWrite(t, "cat.jpg", picture)
		mustWrite(t, "devices.txt", []byte("cam-17\ncam-18\n"))
		mustExecutable(t, "take-samples")
		switch args := slices.Clone(e.args); {
		case strings.HasPrefix(line, "publish "), line == "broker check", line == "check":
			for i, arg := range args {
				args[i] = strings.NewReplacer("cam-17", "desk", "frames/*.png", "cat.jpg").Replace(arg) // as a shell does
			}
			e.succeeds(t, append(args, "--broker", d.url))
		case slices.Contains(args, "--repository") || slices.Contains(args, "--certs"): // which others run
		case strings.HasPrefix(line, "sim "):
			mustWrite(t, "fleet.json", sim.Example)
			args = append(args, "-n", "3", "--for", "1s") // a few, and not until somebody interrupts it
			if slices.Contains(args, "--broker") {
				args = append(args, "--broker", d.url, "--fleet", "examples")
			}
			e.succeeds(t, args)
		case strings.HasPrefix(line, "agent lock "):
			if i := slices.Index(args, "--state"); i > 0 {
				args = slices.Delete(args, i, i+2)
			}
			e.succeeds(t, slices.Insert(args, 2, "--state", state))
		case line == "agent --profile", strings.HasSuffix(line, "--check"):
			e.succeeds(t, append(args, "--state", state)) // that of this machine is another's
		case line == "version", line == "family show", line == "family verify", strings.HasPrefix(line, "broker certs "), strings.HasPrefix(line, "broker acl "),
			strings.HasPrefix(line, "completion "),
			strings.HasPrefix(line, "family export --member"):
			e.succeeds(t, args)
		}
	}
}

// TestExamplesThatNeedAFamilyAreRun runs those on a family that is there, which stands in
// for all that they name; but none that needs pictures, or a supernet of its own.
func TestExamplesThatNeedAFamilyAreRun(t *testing.T) {
	all := examples(t)
	dir, state := t.TempDir(), t.TempDir()
	stock := filepath.Join(dir, "stock.family")
	if got := limber(t, "family", "pack", "--out", stock); got.code != exitDone {
		t.Fatalf("family pack: %+v", got)
	}
	b, err := os.ReadFile(stock)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	seen := map[string]bool{}
	for _, e := range all {
		line := strings.Join(e.args, " ")
		if seen[line] || e.args[0] != "family" || len(e.args) < 2 ||
			!slices.Contains([]string{"diff", "export", "install", "pack", "profile", "show", "verify"}, e.args[1]) {
			continue
		}
		seen[line] = true
		for _, name := range []string{"mine", "better", "mine.family", "shop.family"} {
			mustWrite(t, name, b)
		}
		args := slices.Clone(e.args)
		if i := slices.Index(args, "small"); i > 0 { // a member of shop.family
			args[i] = "9.7M"
		}
		if args[1] == "install" && !slices.Contains(args, "--state") {
			args = append(args, "--state", state)
		}
		t.Run(line, func(t *testing.T) { e.succeeds(t, args) })
	}
}

// succeeds runs an example as a process of its own, as this one has ONNX Runtime open.
func (e example) succeeds(t *testing.T, args []string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), os.Args[0], args...).CombinedOutput(); err != nil {
		t.Errorf("%s: `%s`: %v, %s", e.where, e.line, err, out)
	}
}

// mustExecutable makes a program that does nothing.
func mustExecutable(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// runs runs an example against the desk.
func (d *desk) runs(t *testing.T, e example) {
	var args []string
	for _, arg := range e.args {
		switch arg {
		case "cam-17", "@gate":
			arg = map[string]string{"cam-17": "desk", "@gate": "@all"}[arg]
		}
		args = append(args, arg)
	}
	args = append(args, "--broker", d.url, "--fleet", "demo")
	out := &stopper{stop: func() {}}
	ctx := t.Context()
	if slices.Contains([]string{"watch", "events", "sync"}, args[1]) { // it goes on until it is stopped
		soon, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		ctx = soon
		out.stop = cancel
	}
	code := run(ctx, args, out, out)
	want := exitDone
	switch {
	case args[1] == "power", slices.Contains(args, "--max-watts"):
		want = exitFailed // the owner has not allowed it here; watts may not be measured
	case args[1] == "forget" && !slices.Contains(args, "--force"):
		want = exitFailed // it is online
	}
	if code != want && !(slices.Contains(args, "--max-watts") && code == exitDone) {
		t.Errorf("exit %d, %s; want %d", code, out, want)
	}
}

// stopper keeps what is printed, and ends what goes on once something was.
type stopper struct {
	mu   sync.Mutex
	text bytes.Buffer
	stop func()
}

func (s *stopper) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	return s.text.Write(b)
}

func (s *stopper) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
