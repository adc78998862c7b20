package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/firmware/slot"
)

// firmwareStatus is what `limber firmware status --json` prints.
type firmwareStatus struct {
	Slot     slot.Name     `json:"slot"`
	Version  string        `json:"version"` // of what runs
	Phase    string        `json:"phase"`
	Starts   int           `json:"starts"` // in the trial
	Previous slot.Name     `json:"previous"`
	Refused  []string      `json:"refused"` // digests of manifests
	Last     *firmwareLast `json:"last"`    // null before the first update
}

type firmwareLast struct {
	Version string      `json:"version"`
	Outcome string      `json:"outcome"`
	Reason  slot.Reason `json:"reason"`
	Tail    string      `json:"tail"`
	TS      time.Time   `json:"ts"`
}

func newFirmwareStatus() *cobra.Command {
	var state string
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Print which release this device runs, and how the last update ended",
		Long: `Print which release this device runs, and how the last update ended, with the last
words on stderr of a release that failed. The device need not run. The slot "package"
is the program that was installed with limber-boot, and its version that of this one.`,
		Example: `  limber firmware status
  limber firmware status --state /var/lib/limber --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return printFirmware(c.OutOrStdout(), c.ErrOrStderr(), state, asJSON)
		},
	}
	stateFlag(c, &state)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func printFirmware(w, stderr io.Writer, state string, asJSON bool) error {
	if info, err := os.Stat(state); err != nil {
		return noState(err)
	} else if !info.IsDir() {
		return fmt.Errorf("%s is a file, and no state folder", state)
	}
	s, err := readFirmware(state)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run it as root, or as the user of the agent", err)
	} else if err != nil { // the device goes on as well
		fmt.Fprintf(stderr, "limber: %v\n", err)
	}
	if asJSON {
		return printLines(w, []firmwareStatus{s})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "slot\t%s\nversion\t%s\nphase\t%s\n", s.Slot, s.Version, s.Phase)
	if s.Phase == slot.Trial {
		fmt.Fprintf(t, "starts\t%d\n", s.Starts)
	}
	fmt.Fprintf(t, "previous\t%s\n", s.Previous)
	for _, digest := range s.Refused {
		fmt.Fprintf(t, "refused\t%s\n", digest)
	}
	if l := s.Last; l != nil {
		fmt.Fprintf(t, "last\t%s %s %s\n", l.Version, strings.TrimSpace(l.Outcome+" "+string(l.Reason)),
			l.TS.Local().Format("2006-01-02 15:04:05 MST"))
	}
	if err := t.Flush(); err != nil || s.Last == nil || s.Last.Tail == "" {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s\n", printable(strings.TrimRight(s.Last.Tail, "\n")))
	return err
}

// printable takes out of a text what steers a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// readFirmware reads the slots of a state folder; after an error what is known without
// phase.json.
func readFirmware(state string) (firmwareStatus, error) {
	slots := slot.Open(state)
	p, err := slots.Phase()
	s := firmwareStatus{Slot: p.Slot, Version: version, Phase: p.Phase, Starts: p.Starts, Previous: p.Previous,
		Refused: p.Refused}
	if s.Refused == nil {
		s.Refused = []string{} // [] rather than null
	}
	if l := p.Last; l != nil {
		s.Last = &firmwareLast{l.Version, l.Outcome, l.Reason, l.Tail, l.TS}
	}
	if p.Slot != slot.Package {
		r, e := slots.Release(p.Slot)
		s.Version = r.Version
		err = errors.Join(err, e)
	}
	return s, err
}
