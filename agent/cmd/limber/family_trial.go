package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/trial"
	"github.com/limber-edge/limber/family/workshop"
)

// trialCommand is the process that newTrial starts.
const trialCommand = "trial"

// newTrial tries foreign models in processes of this very program.
func newTrial() *trial.Trial {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0] // if that is no program either, the trial says so
	}
	return trial.New(trial.LimitsOf, exe, "family", trialCommand)
}

func newFamilyTrial() *cobra.Command {
	return newServant(trialCommand, "Run the foreign model on standard input once, and say what it gave", trial.Serve)
}

// newServant is a process that another one of this program starts: it serves what
// standard input asks of ONNX Runtime, and answers on standard output.
func newServant(name, short string, serve func(*ort.Runtime, io.Reader, io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use:    name,
		Short:  short,
		Args:   exactly(0, "no arguments"),
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := workshop.OpenRuntime()
			if err != nil {
				return err
			}
			return errors.Join(serve(rt, c.InOrStdin(), c.OutOrStdout()), rt.Close())
		},
	}
}
