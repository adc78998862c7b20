package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
)

// exportArgs are the flags of `family export`.
type exportArgs struct {
	dir, member, out string
	asJSON           bool
}

// exported is the line of `family export --json`.
type exported struct {
	Member     string        `json:"member"`
	Out        string        `json:"out"`
	Bytes      int           `json:"bytes"`
	SHA256     family.Digest `json:"sha256"`
	Input      string        `json:"input"`  // name of float32 N×3×R×R
	Output     string        `json:"output"` // name of float32 N×classes
	Resolution int           `json:"resolution"`
	Classes    int           `json:"classes"`
	Outputs    string        `json:"outputs"`    // logits, or probabilities
	Difference float64       `json:"difference"` // largest, of what the member gives, in standard deviations of that
}

func newFamilyExport() *cobra.Command {
	var a exportArgs
	c := &cobra.Command{
		Use:   "export",
		Short: "Write one member as an ONNX file of its own, for other runtimes",
		Long: `Write one member as an ONNX file that needs nothing beside it: its weights are
inside, its batch normalisation folded into them. A sub-network takes any number of
images at once, a foreign model as many as it did. The file is checked by running
it: what it gives for two images differs from what the member gives by at most 1e-5
of the spread (the standard deviation) of that.

How a picture becomes the input, the classes and the accuracy are in the file's
metadata, under "limber.preprocess", "limber.classes" and "limber.top1".`,
		Example: `  limber family export --member 23.1M --out cifar.onnx
  limber family export --family shop.family --member small --out small.onnx --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c) },
	}
	familyFlag(c, &a.dir)
	c.Flags().StringVar(&a.member, "member", "", "name of the member, see \"family show\" (required)")
	c.Flags().StringVar(&a.out, "out", "", "file to write (required)")
	c.Flags().BoolVar(&a.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *exportArgs) run(c *cobra.Command) (err error) {
	if err := needed("limber family export", "member", a.member, "out", a.out); err != nil {
		return err
	}
	f, err := openFamily(a.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	i := f.Index(a.member)
	if i < 0 {
		return usageError{fmt.Errorf("--member %s: family %s has %s", a.member, f.Name, strings.Join(memberNames(&f.Family), ", "))}
	}
	rt, err := openRuntime()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	progress := newProgress(c.ErrOrStderr())
	defer progress.End()
	progress.Say("running member " + a.member)
	line, model, err := exportMember(rt, f, i)
	if err != nil {
		return err
	}
	if err := writeWhole(a.out, model); err != nil {
		return err
	}
	progress.End()
	line.Out = a.out
	if a.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(line)
	}
	return printExported(c.OutOrStdout(), f, line)
}

func memberNames(f *family.Family) (names []string) {
	for _, m := range f.Members {
		names = append(names, m.Name)
	}
	return names
}

// exportTolerance is how far the file's numbers may be from the member's, in
// standard deviations of these. The order of additions is a tenth of it.
const exportTolerance = 1e-5

// exportMember makes the file of member i and checks it.
func exportMember(rt *ort.Runtime, f *family.Folder, i int) (line exported, model []byte, err error) {
	cache, err := os.MkdirTemp("", "limber-export-")
	if err != nil {
		return exported{}, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cache)) }()
	// A session runs only what has passed its canary, and somebody else's model
	// only after a trial.
	shelf := resident.New(rt, &f.Family, f, cache, ort.DefaultOptions(), newTrial())
	session, err := shelf.Session(i)
	if err != nil {
		return exported{}, nil, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	m := &f.Members[i]
	line = exported{Member: m.Name, Resolution: m.Arch.R, Classes: len(f.Classes), Outputs: cmp.Or(m.Outputs, "logits")}
	if model, err = line.model(shelf, f, m); err == nil {
		err = line.check(rt, session, f, m, model)
	}
	if err != nil {
		return exported{}, nil, fmt.Errorf("member %s: %w", m.Name, err)
	}
	line.Bytes, line.SHA256 = len(model), family.DigestOf(model)
	return line, model, nil
}

// model makes the file of a member.
func (e *exported) model(shelf *resident.Shelf, f *family.Folder, m *family.Member) (model []byte, err error) {
	if f.Foreign() {
		model, err = e.foreign(f, m)
	} else {
		model, err = e.subnet(shelf, f, m)
	}
	if err != nil {
		return nil, err
	}
	notes, err := notesOf(&f.Family, m)
	if err != nil {
		return nil, err
	}
	return onnx.Labelled(model, notes)
}

func (e *exported) subnet(shelf *resident.Shelf, f *family.Folder, m *family.Member) ([]byte, error) {
	net, err := shelf.Supernet()
	if err != nil {
		return nil, err
	}
	sub, err := net.Member(*m, f)
	if err != nil {
		return nil, err
	}
	e.Input, e.Output = ofa.InputName, ofa.OutputName
	return sub.Model(onnx.Dynamic)
}

func (e *exported) foreign(f *family.Folder, m *family.Member) ([]byte, error) {
	b, err := f.Blob(m.Model)
	if err != nil {
		return nil, err
	}
	model, info, _, err := onnx.Plain(b, len(f.Classes))
	e.Input, e.Output = info.Input.Name, info.Output.Name
	return model, err
}

// notesOf is what whoever has the file alone needs to know.
func notesOf(f *family.Family, m *family.Member) ([]onnx.Note, error) {
	how, err := f.Preprocessing()
	if err != nil {
		return nil, err
	}
	preprocess, err := json.Marshal(how)
	if err != nil {
		return nil, fmt.Errorf("preprocessing: %w", err)
	}
	classes, err := json.Marshal(f.Classes)
	if err != nil {
		return nil, fmt.Errorf("classes: %w", err)
	}
	return []onnx.Note{
		{Key: "limber.family", Value: f.Name}, {Key: "limber.member", Value: m.Name}, {Key: "limber.top1", Value: fmt.Sprint(m.Top1)},
		{Key: "limber.preprocess", Value: string(preprocess)}, {Key: "limber.classes", Value: string(classes)},
		{Key: "limber.outputs", Value: cmp.Or(m.Outputs, "logits")},
	}, nil
}

// check runs the file beside the member, on the member's canary and on noise.
func (e *exported) check(rt *ort.Runtime, session family.Session, f *family.Folder, m *family.Member, model []byte) (err error) {
	file, err := rt.NewBatch(model, e.Input, []string{e.Output}, ort.DefaultOptions())
	if err != nil {
		return fmt.Errorf("the exported file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	b, err := f.Blob(m.Canary)
	if err != nil {
		return err
	}
	canary, err := family.Floats(b)
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	pixels := 3 * m.Arch.R * m.Arch.R // the session has judged the canary's length
	for _, input := range [][]float32{canary[:pixels], noise(pixels)} {
		off, err := differs(file, session, input, m.Arch.R, e.Classes)
		if err != nil {
			return err
		}
		e.Difference = math.Max(e.Difference, off)
		if !(off <= exportTolerance) {
			return fmt.Errorf("the exported file is checked by running it: a number is %.3g standard deviations from the member's, at most %g is allowed; nothing was written",
				off, exportTolerance)
		}
	}
	return nil
}

// differs is how far what a file gives for an image is from what the member gives.
func differs(file *ort.Batch, session family.Session, input []float32, r, classes int) (float64, error) {
	want := make([]float32, classes)
	if err := session.Run(want, input); err != nil {
		return 0, err
	}
	got, err := file.Run(input, 1, r)
	if err != nil {
		return 0, fmt.Errorf("the exported file: %w", err)
	}
	if len(got[0]) != classes {
		return 0, fmt.Errorf("the exported file gives %d numbers, wants %d", len(got[0]), classes)
	}
	return resident.Distance(got[0], want), nil
}

func printExported(w io.Writer, f *family.Folder, e exported) error {
	how, err := f.Preprocessing()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, `%s: member %s of family %s, %d kB
input   %s, float32 Nx3x%dx%d, red green blue: (pixel/255 - mean)/std, mean %v, std %v, resize %s, crop %s
output  %s, float32 Nx%d, %s of %s
checked by running it: the largest difference is %.2g of the spread, at most %g is allowed
`, e.Out, e.Member, f.Name, e.Bytes/1000, e.Input, e.Resolution, e.Resolution, how.Mean, how.Std, how.Resize, how.Crop,
		e.Output, e.Classes, e.Outputs, shortened(f.Classes, 6), e.Difference, exportTolerance)
	return err
}
