package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

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
