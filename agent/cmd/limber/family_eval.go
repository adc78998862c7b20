package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/family/workshop"
)

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
(CLASS/NAME.jpg) whose folders are named after the family's classes, or sheets
NAME.png with NAME.labels.json, all of a folder or those of a pattern
(dir/test_*). Without --data these are all 10,000 test images of CIFAR-10 once
"make data" has run, else the 1,000 that the program carries.

The members of a family of foreign models are run as on a device, one image at a
time after a trial; "stated" is the top-1 that was given at their import.`,
		Example: `  limber family eval
  limber family eval --family ./mine --data ./photos --json
  limber family eval --family shop.family --data './sheets/test_*'
  limber family eval --agreement --confusion 23.1M`,
		PreRunE: func(*cobra.Command, []string) error {
			if a.asJSON && (a.agreement || a.confusion != "") {
				return usagef("--json prints the accuracies only: leave out --agreement and --confusion")
			}
			return nil
		},
		RunE: onFamily(&a.dir, a.run),
	}
	familyFlag(c, &a.dir)
	c.Flags().StringVar(&a.data, "data", "", "folder of labelled images, or a pattern of sheets in it (dir/test_*)")
	c.Flags().BoolVar(&a.agreement, "agreement", false, "also print how often two members agree")
	c.Flags().StringVar(&a.confusion, "confusion", "", "also print what this member takes each class for")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object a line, of the accuracies only")
	return c
}

func (a *evalArgs) run(c *cobra.Command, f *family.Folder) (err error) {
	if a.confusion != "" && f.Index(a.confusion) < 0 {
		return usagef("--confusion %s: the family has no such member", a.confusion)
	}
	shop, progress := newShop(c)
	defer progress.End()
	set, err := evalSet(shop, a.data, &f.Family)
	if err != nil {
		return err
	}
	e, err := shop.NewEvaluator(f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	out := c.OutOrStdout()
	if !a.asJSON {
		printHead(out, f.Foreign())
	}
	guesses := make([][]search.Guess, len(f.Members))
	for i, m := range f.Members {
		progress.Tell("members", i, len(f.Members))
		if guesses[i], err = e.Guesses(c.Context(), i, set); err != nil {
			return err
		}
		progress.End()
		if err := a.print(out, m, search.ScoreOf(guesses[i]), f.Foreign()); err != nil {
			return err
		}
	}
	return a.printMore(out, f, guesses, set)
}

// evalSet opens the images to evaluate on, preprocessed as the family wants them.
func evalSet(shop workshop.Shop, data string, f *family.Family) (workshop.Set, error) {
	labelled, err := shop.TestImages(data, f)
	if err != nil {
		return workshop.Set{}, err
	}
	how, err := f.Preprocessing()
	if err != nil {
		return workshop.Set{}, err
	}
	return workshop.Preprocessed(labelled, how)
}

// evalLine is one line of `family eval --json`.
type evalLine struct {
	Member string  `json:"member"`
	Top1   float64 `json:"top1"`
	Top5   float64 `json:"top5"`
	Images int     `json:"images"`
	MMACs  float64 `json:"mmacs"`
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
	return printMatrix(w, memberNames(&f.Family), func(i, j int) string {
		return fmt.Sprintf("%.1f", 100*search.Agreement(guesses[i], guesses[j]))
	})
}

func printConfusion(w io.Writer, f *family.Folder, counts [][]int) error {
	fmt.Fprintf(w, "\nimages of the class on the left taken for the class above\n")
	return printMatrix(w, f.Classes, func(i, j int) string { return fmt.Sprint(counts[i][j]) })
}

// printMatrix prints a cell for each two of some names.
func printMatrix(w io.Writer, names []string, cell func(row, column int) string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t%s\t\n", strings.Join(names, "\t"))
	for i, name := range names {
		fmt.Fprint(t, name)
		for j := range names {
			fmt.Fprint(t, "\t", cell(i, j))
		}
		fmt.Fprintln(t, "\t")
	}
	return t.Flush()
}

func printHead(w io.Writer, foreign bool) {
	first := "MMACs"
	if foreign { // which nobody counted
		first = "stated %"
	}
	fmt.Fprintf(w, "%-12s %8s %8s %8s %8s\n", "member", first, "top-1 %", "top-5 %", "images")
}

func (a *evalArgs) print(w io.Writer, m family.Member, score search.Score, foreign bool) error {
	if a.asJSON {
		return json.NewEncoder(w).Encode(evalLine{m.Name, score.Top1, score.Top5, score.Images, m.MMACs})
	}
	first := m.MMACs
	if foreign {
		first = 100 * m.Top1
	}
	_, err := fmt.Fprintf(w, "%-12s %8.2f %8.2f %8.2f %8d\n", m.Name, first, 100*score.Top1, 100*score.Top5, score.Images)
	return err
}
