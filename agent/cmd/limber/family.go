package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/agent/frame"
	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/search"
	"github.com/limber-edge/limber/family/stock"
)

func newFamily() *cobra.Command {
	c := group("family", "Make, measure and look at families of sub-networks", `  limber family show
  limber family eval
  limber family build --supernet ofa.pth --calibration ./train --validation ./val --out mine.family`)
	c.Long = c.Short + `. A member is named after
its cost: 23.1M takes 23.1 million multiply-accumulates (MMACs) an image.`
	c.AddCommand(newFamilyShow(), newFamilyEval(), newFamilyLogits(), newFamilySearch(), newFamilyBuild(), newFamilyProfile(), newFamilyTable(), newFamilyPack(), newFamilyVerify(), newFamilyDiff(), newFamilyInstall(), newFamilyImport(), newFamilyExport(), newFamilyTrial())
	return c
}

// openFamily opens the family in a folder or a file, or the stock family for "".
// The caller closes it.
func openFamily(name string) (*family.Folder, error) {
	if name == "" {
		return stock.Family()
	}
	return family.Open(name)
}

// openRuntime finds and loads ONNX Runtime.
func openRuntime() (*ort.Runtime, error) {
	path, err := ort.Find()
	if err != nil {
		return nil, err
	}
	return ort.Open(path)
}

// loadSupernet reads a checkpoint, and says on w what it took of one that holds
// more than it needs.
func loadSupernet(w io.Writer, path string) (*ofa.Supernet, error) {
	net, err := ofa.Load(path)
	if err != nil {
		return nil, err
	}
	if taken := net.Taken(); taken != "" {
		fmt.Fprintf(w, "limber: %s: took %s\n", path, taken)
	}
	return net, nil
}

// loader makes batch sessions with as many threads as asked for.
func loader(rt *ort.Runtime, threads int) ofa.Loader {
	o := ort.DefaultOptions()
	o.Threads = threads
	return func(model []byte, input string, outputs []string) (ofa.BatchRunner, error) {
		return rt.NewBatch(model, input, outputs, o)
	}
}

// prober makes sessions to be timed, with as many threads as asked for.
func prober(rt *ort.Runtime, threads int) search.Prober {
	o := ort.DefaultOptions()
	o.Threads = threads
	return func(model []byte, input string, in []int, output string, out []int) (search.Probe, error) {
		return rt.NewProbe(model, ort.Port{Name: input, Dims: in}, ort.Port{Name: output, Dims: out}, o)
	}
}

func newFamilyShow() *cobra.Command {
	var dir, plot string
	var asJSON bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the members of a family, and draw them",
		Example: `  limber family show
  limber family show --family ./mine --json
  limber family show --family mine.family --plot front.svg`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := openFamily(dir)
			if err != nil {
				return err
			}
			defer f.Close()
			if plot != "" {
				if err := plotFront(plot, &f.Family); err != nil {
					return err
				}
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(f.Family)
			}
			return showFamily(c.OutOrStdout(), f)
		},
	}
	familyFlag(c, &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print the manifest as one JSON object")
	c.Flags().StringVar(&plot, "plot", "", "also write the front as a picture, SVG")
	return c
}

func familyFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "family", "", "the family's folder, or file of \"family pack\" (default: the stock family)")
}

func showFamily(w io.Writer, f *family.Folder) error {
	if f.Foreign() {
		return showForeign(w, &f.Family)
	}
	fmt.Fprintf(w, "family %s (%s), supernet %s, %d classes: %s\n\n", f.Name, f.Digest().Short(), f.Supernet.Short(),
		len(f.Classes), shortened(f.Classes, 6))
	drawFront(w, &f.Family)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "member\tMMACs\tpixels\tdepth\ttop-1 %\ttop-5 %\ttest images\tcalibrated on\tstatistics")
	for _, m := range f.Members {
		fmt.Fprintf(t, "%s\t%.2f\t%d\t%s\t%.2f\t%.2f\t%d\t%d\t%s\n", m.Name, m.MMACs, m.Arch.R, digits(m.Arch.D),
			100*m.Top1, 100*m.Top5, m.Images, m.CalibratedOn.Images, m.Stats.Short())
	}
	return t.Flush()
}

// showForeign prints what is known of a family without a supernet.
func showForeign(w io.Writer, f *family.Family) error {
	fmt.Fprintf(w, "family %s (%s), foreign models, %d classes: %s\n\n", f.Name, f.Digest().Short(), len(f.Classes), shortened(f.Classes, 6))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "member\tpixels\ttop-1 %\tgives\tmodel")
	for _, m := range f.Members {
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%s\t%s\n", m.Name, m.Arch.R, 100*m.Top1, cmp.Or(m.Outputs, "logits"), m.Model.Short())
	}
	return t.Flush()
}

func digits(v []int) string { return strings.Trim(fmt.Sprint(v), "[]") }

// shortened lists the first n names.
func shortened(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:n], ", ") + ", ..."
}

// testImages opens what is named, else all of CIFAR-10's test images where they
// have been fetched, else those that the program carries. CIFAR-10's are counted
// by the numbers of its classes, whatever the family calls them; it says so on w.
func testImages(w io.Writer, path string, f *family.Family) (pictures, error) {
	if path != "" {
		return openPictures(path, f.Classes)
	}
	known, err := stock.Family()
	if err != nil {
		return nil, err
	}
	switch names := shortened(f.Classes, 6); {
	case len(f.Classes) != len(known.Classes):
		return nil, fmt.Errorf("family %s is of %d classes (%s) and not of CIFAR-10's: name images of them with --data", f.Name, len(f.Classes), names)
	case !slices.Equal(f.Classes, known.Classes):
		fmt.Fprintf(w, "limber: on CIFAR-10's images, for which the family's classes %s stand for %s; --data names others\n", names, shortened(known.Classes, 6))
	}
	if exe, err := os.Executable(); err == nil {
		fetched := filepath.Join(filepath.Dir(filepath.Dir(exe)), ".data", "cifar10")
		if _, err := os.Stat(filepath.Join(fetched, "test.png")); err == nil {
			return openPictures(filepath.Join(fetched, "test"), f.Classes)
		}
	}
	sheet, err := stock.Sheet(frame.OpenSheet)
	if err != nil {
		return nil, err
	}
	return sheets{sheet}, nil
}

// cut is a family's members as sub-networks with their own BN statistics.
type cut struct {
	description ofa.Description
	members     []*ofa.Subnet
}

func cutFamily(f *family.Folder) (*cut, error) {
	if f.Foreign() {
		return nil, fmt.Errorf("family %s is of foreign models, and of no supernet", f.Name)
	}
	desc, err := ofa.ParseDescription(f.Describe)
	if err != nil {
		return nil, err
	}
	b, err := f.Blob(f.Supernet)
	if err != nil {
		return nil, err
	}
	net, err := ofa.Parse(b, desc)
	if err != nil {
		return nil, err
	}
	c := &cut{description: desc}
	for _, m := range f.Members {
		sub, err := net.Member(m, f)
		if err != nil {
			return nil, err
		}
		c.members = append(c.members, sub)
	}
	return c, nil
}
