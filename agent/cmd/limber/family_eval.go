package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/search"
)

// evalLine is one line of `family eval --json`.
type evalLine struct {
	Member string  `json:"member"`
	Top1   float64 `json:"top1"`
	Top5   float64 `json:"top5"`
	Images int     `json:"images"`
	MMACs  float64 `json:"mmacs"`
}

// evalArgs are the flags of `family eval`.
type evalArgs struct {
	dir, data, confusion string
	agreement, asJSON    bool
}

func newFamilyEval() *cobra.Command {
	var a evalArgs
	c := &cobra.Command{
		Use:   "eval",
		Short: "Measure the top-1 and top-5 accuracy of every member",
		Long: `Measure the accuracy of every member on labelled images: an ImageFolder tree
(CLASS/NAME.jpg), or sheets NAME.png with NAME.labels.json. Without --data these
are all 10,000 test images of CIFAR-10 once "make data" has run, else the 1,000
that the program carries.`,
		Example: `  limber family eval
  limber family eval --family ./mine --data ./photos --json
  limber family eval --agreement --confusion 29.7M`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if a.asJSON && (a.agreement || a.confusion != "") {
				return usageError{errors.New("--json prints the accuracies only: leave out --agreement and --confusion")}
			}
			f, err := openFamily(a.dir)
			if err != nil {
				return err
			}
			defer f.Close()
			if a.confusion != "" && f.Index(a.confusion) < 0 {
				return usageError{fmt.Errorf("--confusion %s: the family has no such member", a.confusion)}
			}
			return a.run(c, f)
		},
	}
	familyFlag(c, &a.dir)
	c.Flags().StringVar(&a.data, "data", "", "folder of labelled images, or a pattern of sheets in it (dir/test_*)")
	c.Flags().BoolVar(&a.agreement, "agreement", false, "also print how often two members agree")
	c.Flags().StringVar(&a.confusion, "confusion", "", "also print what this member takes each class for")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object a line, of the accuracies only")
	return c
}

func (a *evalArgs) run(c *cobra.Command, f *family.Folder) error {
	labelled, err := testImages(c.ErrOrStderr(), a.data, &f.Family)
	if err != nil {
		return err
	}
	rt, err := openRuntime()
	if err != nil {
		return err
	}
	defer rt.Close()
	cut, err := cutFamily(f)
	if err != nil {
		return err
	}
	set, err := preprocessed(labelled, cut.description.Preprocess)
	if err != nil {
		return err
	}
	out, progress := c.OutOrStdout(), newProgress(c.ErrOrStderr())
	defer progress.end()
	if !a.asJSON {
		fmt.Fprintf(out, "%-12s %8s %8s %8s %8s\n", "member", "MMACs", "top-1 %", "top-5 %", "images")
	}
	guesses := make([][]search.Guess, len(f.Members))
	for i, m := range f.Members {
		progress.tell("members", i, len(f.Members))
		if guesses[i], err = search.Guesses(cut.members[i], loader(rt, 2), set); err != nil {
			return fmt.Errorf("member %s: %w", m.Name, err)
		}
		progress.end()
		if err := printScore(out, m, search.ScoreOf(guesses[i]), a.asJSON); err != nil {
			return err
		}
	}
	return a.printMore(out, f, guesses, set)
}

// printMore prints what was asked for beside the accuracies.
func (a *evalArgs) printMore(w io.Writer, f *family.Folder, guesses [][]search.Guess, set search.Images) error {
	if a.agreement {
		if err := printAgreement(w, f, guesses); err != nil {
			return err
		}
	}
	if i := f.Index(a.confusion); i >= 0 {
		return printConfusion(w, f, search.Confusion(guesses[i], set, len(f.Classes)))
	}
	return nil
}

func printAgreement(w io.Writer, f *family.Folder, guesses [][]search.Guess) error {
	fmt.Fprintf(w, "\nimages that two members take for the same, %%\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, m := range f.Members {
		fmt.Fprintf(t, "\t%s", m.Name)
	}
	fmt.Fprintln(t, "\t")
	for i, m := range f.Members {
		fmt.Fprint(t, m.Name)
		for j := range f.Members {
			fmt.Fprintf(t, "\t%.1f", 100*search.Agreement(guesses[i], guesses[j]))
		}
		fmt.Fprintln(t, "\t")
	}
	return t.Flush()
}

func printConfusion(w io.Writer, f *family.Folder, counts [][]int) error {
	fmt.Fprintf(w, "\nimages of the class on the left taken for the class above\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, name := range f.Classes {
		fmt.Fprintf(t, "\t%s", name)
	}
	fmt.Fprintln(t, "\t")
	for i, row := range counts {
		fmt.Fprint(t, f.Classes[i])
		for _, n := range row {
			fmt.Fprintf(t, "\t%d", n)
		}
		fmt.Fprintln(t, "\t")
	}
	return t.Flush()
}

func printScore(w io.Writer, m family.Member, score search.Score, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(evalLine{m.Name, score.Top1, score.Top5, score.Images, m.MMACs})
	}
	_, err := fmt.Fprintf(w, "%-12s %8.2f %8.2f %8.2f %8d\n", m.Name, m.MMACs, 100*score.Top1, 100*score.Top5, score.Images)
	return err
}
