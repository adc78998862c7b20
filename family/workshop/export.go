package workshop

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/family/ofa"
	"github.com/limber-edge/limber/family/onnx"
	"github.com/limber-edge/limber/family/ort"
	"github.com/limber-edge/limber/family/resident"
	"github.com/limber-edge/limber/store"
)

// Exported says what was written.
type Exported struct {
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

// ExportTolerance is how far the file's numbers may be from the member's, in
// standard deviations of these. The order of additions is a tenth of it.
const ExportTolerance = 1e-5

// Export writes member i as an ONNX file that needs nothing beside it, once what it
// gives has been compared with what the member gives.
func (s Shop) Export(f *family.Folder, i int, out string) (line Exported, err error) {
	m := &f.Members[i]
	s.Progress.Say("running member " + m.Name)
	room, err := openScratch()
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, room.Close()) }()
	// A session runs only what has passed its canary, and somebody else's model
	// only after a trial.
	shelf, err := room.shelf(f, ort.DefaultOptions(), s.Guard)
	if err != nil {
		return line, err
	}
	session, err := shelf.Session(i)
	if err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	line = Exported{Member: m.Name, Out: out, Resolution: m.Arch.R, Classes: len(f.Classes),
		Outputs: cmp.Or(m.Outputs, "logits")}
	model, err := line.model(shelf, f, m)
	if err == nil {
		err = line.check(room.rt, session, f, m, model)
	}
	if err != nil {
		return line, fmt.Errorf("member %s: %w", m.Name, err)
	}
	line.Bytes, line.SHA256 = len(model), family.DigestOf(model)
	return line, store.WriteFile(out, model)
}

func (e *Exported) model(shelf *resident.Shelf, f *family.Folder, m *family.Member) (model []byte, err error) {
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

func (e *Exported) subnet(shelf *resident.Shelf, f *family.Folder, m *family.Member) ([]byte, error) {
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

func (e *Exported) foreign(f *family.Folder, m *family.Member) ([]byte, error) {
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
		{Key: "limber.family", Value: f.Name}, {Key: "limber.member", Value: m.Name},
		{Key: "limber.top1", Value: fmt.Sprint(m.Top1)},
		{Key: "limber.preprocess", Value: string(preprocess)}, {Key: "limber.classes", Value: string(classes)},
		{Key: "limber.outputs", Value: cmp.Or(m.Outputs, "logits")},
	}, nil
}

// check runs the file beside the member, on the member's canary and on noise.
func (e *Exported) check(rt *ort.Runtime, session family.Session, f *family.Folder, m *family.Member,
	model []byte) (err error) {
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
	for _, input := range [][]float32{canary[:pixels], Noise(pixels)} {
		off, err := differs(file, session, input, m.Arch.R, e.Classes)
		if err != nil {
			return err
		}
		e.Difference = math.Max(e.Difference, off)
		if !(off <= ExportTolerance) {
			return fmt.Errorf("the exported file is checked by running it: "+
				"a number is %.3g standard deviations from the member's, at most %g is allowed; nothing was written",
				off, ExportTolerance)
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
