package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/controller"
	"github.com/limber-edge/limber/agent/governor"
	"github.com/limber-edge/limber/agent/wire"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print what a shell needs to complete the words of limber",
		Long: `Print the script by which a shell completes commands, flags, files and names; those of
devices and rollouts it asks the broker for, which has half a second. The Debian package
installs all three. By hand, the folder of a file must be there; for one shell of bash alone
"source <(limber completion bash)" does. bash needs its package bash-completion.`,
		Example: `  limber completion bash > ~/.local/share/bash-completion/completions/limber
  limber completion zsh > ~/.zfunc/_limber    # of fpath
  limber completion fish > ~/.config/fish/completions/limber.fish`,
		Args: exactly(1, "a shell"),
		RunE: func(c *cobra.Command, args []string) error {
			script, err := completionScript(c.Root(), args[0])
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(script)
			return err
		},
	}
}

// completionScript is what a shell is to read.
func completionScript(root *cobra.Command, shell string) ([]byte, error) {
	var b bytes.Buffer
	var err error
	switch shell {
	case "bash":
		err = root.GenBashCompletionV2(&b, true)
		return groupWords(b.Bytes()), err
	case "zsh":
		err = root.GenZshCompletion(&b)
	case "fish":
		err = root.GenFishCompletion(&b, true)
	default:
		err = usagef("%q is none of bash, zsh and fish; see `limber completion --help`", shell)
	}
	return b.Bytes(), err
}

// groupWords has bash take a group for one word: it ends words at @ as well, which Cobra's
// script does not know.
func groupWords(script []byte) []byte {
	script = bytes.ReplaceAll(script, []byte(" -n =: "), []byte(" -n =:@ "))
	const char = "    __limber_handle_special_char \"$cur\" "
	return bytes.ReplaceAll(script, []byte(char+"=\n"), []byte(char+"=\n"+char+"@\n"))
}

// completer is what a word may be. word is its beginning.
type completer func(c *cobra.Command, args []string, word string) []cobra.Completion

// complete has a shell told what the arguments and flags of all commands may be: of an
// argument its name in the usage says it.
func complete(c *cobra.Command) {
	c.ValidArgsFunction = completeArgument
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if say := flagCompleter(c, f.Name); say != nil {
			c.RegisterFlagCompletionFunc(f.Name, func(c *cobra.Command, args []string, word string) ([]cobra.Completion,
				cobra.ShellCompDirective) {
				return offered(say(c, args, word))
			}) // fails for a flag that is not there
		}
	})
	for _, sub := range c.Commands() {
		complete(sub)
	}
}

func completeArgument(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	names := strings.Fields(c.Use)[1:]
	if len(args) >= len(names) {
		if n := len(names); n > 0 && names[n-1] == "FILE..." {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var say completer
	switch name := names[len(args)]; name {
	case "DEVICE":
		say = deviceNames
	case "DEVICE|@GROUP":
		say = targetNames
	case "MODE":
		say = modeNames
	case "VERB":
		say = oneOf(wire.VerbMode, wire.VerbGoal, wire.VerbPower, wire.VerbFamily, wire.VerbRelease, wire.VerbCancel)
	case "ID":
		say = rolloutNames
	default:
		if strings.ToLower(name) != name { // FILE, FOLDER, OLD
			return nil, cobra.ShellCompDirectiveDefault
		}
		say = oneOf(strings.Split(name, "|")...)
	}
	return offered(say(c, args, word))
}

// offered is what a shell is told; no file has the name of a device. A value follows "=".
// What devices say is offered where it is one word that no shell obeys, and no terminal:
// what begins as Cobra's help does is printed as it is.
func offered(all []cobra.Completion) ([]cobra.Completion, cobra.ShellCompDirective) {
	words := make([]cobra.Completion, 0, len(all))
	for _, one := range all {
		if word, _, _ := strings.Cut(one, "\t"); plainWord(word) {
			words = append(words, one)
		}
	}
	directive := cobra.ShellCompDirectiveNoFileComp
	if len(words) > 0 && strings.HasSuffix(words[0], "=") {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return words, directive
}

func plainWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("@:=,", r) && (r >= 0x80 || !wire.ValidName(string(r)))
	})
}

// flagCompleter is what the value of a flag may be; nil: a file, or nobody knows.
func flagCompleter(c *cobra.Command, flag string) completer {
	switch flag {
	case "severity":
		return oneOf(string(wire.SeverityInfo), string(wire.SeverityWarning), string(wire.SeverityError))
	case "gate":
		return oneOf(wire.GateAgreement+"=", wire.GateSuccess+"=", wire.GateMisses+"=", wire.GateP95+"=")
	case "prefer":
		return oneOf(wire.PreferAccuracy, wire.PreferLatency, wire.PreferEnergy)
	case "mode":
		return modeNames
	case "where":
		return conditions
	case "device":
		if c.Name() == "publish" { // elsewhere it is a new one
			return deviceNames
		}
	}
	return nil
}

func oneOf(words ...string) completer {
	return func(*cobra.Command, []string, string) []cobra.Completion { return words }
}

// completionTime is how long a broker may take, so that with the start of this program
// nobody waits for half a second.
const completionTime = 400 * time.Millisecond

// asking works no longer than that. A shell is told no errors, so there is none: what is
// not known is not offered.
func asking(c *cobra.Command, work func(context.Context)) {
	ctx, stop := context.WithTimeout(c.Context(), completionTime)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		work(ctx)
	}()
	select {
	case <-ended:
	case <-ctx.Done(): // the farewell is not waited for
	}
}

// operatorOf is who the flags of a command say comes to the broker.
func operatorOf(c *cobra.Command) (a operatorArgs) {
	own := new(cobra.Command)
	a.flags(own)
	own.Flags().VisitAll(func(f *pflag.Flag) {
		if said := c.Flags().Lookup(f.Name); said != nil && said.Changed {
			f.Value.Set(said.Value.String()) // it was taken before
		}
	})
	return a
}

// knownDevices are those that the broker told of in time.
func knownDevices(c *cobra.Command) []fleet.Device {
	a := operatorOf(c)
	cfg, err := a.link()
	if err != nil {
		return nil
	}
	fl, err := fleet.Open(cfg, slog.New(slog.DiscardHandler), fleet.ListFilters(a.fleet)...)
	if err != nil {
		return nil
	}
	asking(c, func(ctx context.Context) {
		fl.While(ctx, func(ctx context.Context) error {
			_, err := fl.List(ctx)
			return err
		})
	})
	return fl.Registry().Devices()
}

func deviceNames(c *cobra.Command, _ []string, _ string) (names []cobra.Completion) {
	for _, d := range knownDevices(c) {
		state := ""
		if d.State != nil {
			state = fleet.Printable(string(d.State.State))
		}
		names = append(names, cobra.CompletionWithDesc(d.Name, state))
	}
	return names
}

func targetNames(c *cobra.Command, args []string, word string) (names []cobra.Completion) {
	groups := map[string]int{wire.Everybody: 0}
	for _, d := range knownDevices(c) {
		names = append(names, d.Name)
		if d.Caps != nil {
			for _, group := range d.Caps.Groups {
				groups[group]++
			}
		}
	}
	for group := range groups {
		if wire.ValidGroup(group) {
			names = append(names, group)
		}
	}
	slices.Sort(names)
	return names
}

// modeNames are those of the power of a board where it is about that.
func modeNames(c *cobra.Command, args []string, _ string) (names []cobra.Completion) {
	power := c.Name() == "power"
	if !power {
		names = slices.DeleteFunc(governor.Modes(), func(m string) bool { return strings.Contains(m, "{") })
	}
	if len(args) == 0 {
		return names
	}
	for _, d := range knownDevices(c) {
		switch {
		case !d.In(args[0]) || d.Caps == nil:
		case power && d.Caps.Power != nil:
			names = append(names, d.Caps.Power.Modes...)
		case !power:
			names = append(names, fixedModes(d.Caps.Members)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func fixedModes(members []wire.Member) (names []string) {
	for _, m := range members {
		names = append(names, "fixed:"+fleet.Printable(m.Name))
	}
	return names
}

func rolloutNames(c *cobra.Command, _ []string, _ string) (names []cobra.Completion) {
	a := operatorOf(c)
	cfg, err := a.link()
	if err != nil {
		return nil
	}
	r, err := controller.OpenRemote(cfg, a.fleet, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil
	}
	asking(c, func(ctx context.Context) {
		r.While(ctx, func(ctx context.Context) error {
			_, err := r.List(ctx)
			return err
		})
	})
	for _, d := range r.Rollouts() {
		names = append(names, cobra.CompletionWithDesc(d.ID, fmt.Sprintf("%s, %s", d.Kind, d.State)))
	}
	return names
}

// conditions are those of --where, behind what is there already.
func conditions(c *cobra.Command, _ []string, word string) (all []cobra.Completion) {
	last := strings.LastIndex(word, ",") + 1
	before := word[:last]
	key, _, value := strings.Cut(word[last:], "=")
	switch {
	case value && key == "state":
		for _, state := range []wire.Presence{wire.Online, wire.Offline, wire.Lost} {
			all = append(all, before+"state="+string(state))
		}
	case value && key == "device":
		for _, d := range knownDevices(c) {
			all = append(all, before+"device="+d.Name)
		}
	case !value:
		for line := range strings.Lines(whereHelp) {
			name, _, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok && strings.HasPrefix(line, "  ") && !strings.HasPrefix(name, "label.") {
				all = append(all, before+name+"=")
			}
		}
		for _, d := range knownDevices(c) {
			for label := range d.Labels {
				all = append(all, before+"label."+label+"=")
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
