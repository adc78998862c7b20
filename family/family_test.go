package family_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/limber-edge/limber/family"
)

// two is a sound family of two members and the blobs it needs.
func two() (*family.Family, fstest.MapFS) {
	tree := fstest.MapFS{family.SupernetFile: {Data: []byte("supernet")}}
	f := &family.Family{
		Schema: family.Schema, Name: "two", Supernet: family.DigestOf([]byte("supernet")),
		Describe: json.RawMessage(`{"kind":"ofa_mbv3"}`), Classes: []string{"cat", "dog"},
	}
	for i, name := range []string{"small", "large"} {
		stats, canary := []byte("stats of "+name), []byte("canary of "+name)
		f.Members = append(f.Members, family.Member{
			Name: name, Arch: family.Arch{KS: []int{3}, E: []float64{4}, D: []int{2}, R: 32 + 8*i},
			MMACs: float64(10 * (i + 1)), Top1: 0.7 + 0.1*float64(i), Top5: 0.95,
			Stats: family.DigestOf(stats), Canary: family.DigestOf(canary),
		})
		for _, b := range [][]byte{stats, canary} {
			tree[family.BlobFile(family.DigestOf(b))] = &fstest.MapFile{Data: b}
		}
	}
	return f, tree
}

func TestManifestSurvivesWritingAndReading(t *testing.T) {
	f, _ := two()
	b, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := family.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.Marshal()
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("got %s, %v; want %s", again, err, b)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, b); err != nil {
		t.Fatal(err)
	}
	flat, err := family.Parse(compact.Bytes())
	if err != nil || got.Digest() != f.Digest() || flat.Digest() != f.Digest() {
		t.Errorf("got digests %s and %s, %v; want %s whatever the layout", got.Digest(), flat.Digest(), err, f.Digest())
	}
	got.Members[0].Top1 += 0.01
	if got.Digest() == f.Digest() {
		t.Error("another manifest has the same digest")
	}
}

func TestManifestThatBreaksTheRuleIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *family.Family)
		says   []string
	}{
		{"another schema", func(f *family.Family) { f.Schema = 2 }, []string{"schema 2", "reads 1"}},
		{"no name", func(f *family.Family) { f.Name = "" }, []string{`name ""`}},
		{"name of a path", func(f *family.Family) { f.Name = "../two" }, []string{`name "../two"`}},
		{"supernet in capitals", func(f *family.Family) { f.Supernet = family.Digest(strings.ToUpper(string(f.Supernet))) },
			[]string{"supernet"}},
		{"one class", func(f *family.Family) { f.Classes = f.Classes[:1] }, []string{"1 classes"}},
		{"no members", func(f *family.Family) { f.Members = nil }, []string{"0 members"}},
		{"too many members", func(f *family.Family) { f.Members = slices.Repeat(f.Members, 9) }, []string{"18 members"}},
		{"two of a name", func(f *family.Family) { f.Members[1].Name = "small" }, []string{`member 1 "small"`, "taken"}},
		{"dearer and worse", func(f *family.Family) { f.Members[1].Top1 = 0.6 }, []string{`member 1 "large"`,
			`"small" before it`}},
		{"dearer and no better", func(f *family.Family) { f.Members[1].Top1 = 0.7 }, []string{`member 1 "large"`}},
		{"top-1 in percent", func(f *family.Family) { f.Members[0].Top1, f.Members[0].Top5 = 70, 95 },
			[]string{"member 0", "fractions"}},
		{"never right", func(f *family.Family) { f.Members[0].Top1 = 0 }, []string{`member 0 "small"`, "top1 0",
			"fractions over 0"}},
		{"top-5 under top-1", func(f *family.Family) { f.Members[0].Top5 = 0.5 }, []string{"not under top1"}},
		{"top-1 that is no number", func(f *family.Family) { f.Members[0].Top1 = math.NaN() }, []string{"top1 NaN"}},
		{"costs nothing", func(f *family.Family) { f.Members[0].MMACs = 0 }, []string{"mmacs 0"}},
		{"costs everything", func(f *family.Family) { f.Members[1].MMACs = math.Inf(1) }, []string{"mmacs +Inf"}},
		{"no statistics", func(f *family.Family) { f.Members[0].Stats = "" }, []string{"stats and canary"}},
		{"canary of a path", func(f *family.Family) { f.Members[0].Canary = "../../etc/passwd" },
			[]string{"stats and canary"}},
		{"probabilities of a sub-network", func(f *family.Family) { f.Members[0].Outputs = family.Probabilities },
			[]string{`outputs "probabilities"`}},
		{"no resolution", func(f *family.Family) { f.Members[0].Arch.R = 0 }, []string{"resolution 0"}},
		{"M6 labels of another network", func(f *family.Family) { f.Describe = json.RawMessage(`{"classes":["dog","cat"]}`) },
			[]string{`class 0 is "cat"`, `"dog" in the description`, "another network"}},
		{"M6 labels of a larger network",
			func(f *family.Family) { f.Describe = json.RawMessage(`{"classes":["cat","dog","emu"]}`) },
			[]string{"2 classes", "names 3", "another network"}},
		{"description of no object", func(f *family.Family) { f.Describe = json.RawMessage(`"cat"`) },
			[]string{"description"}},
		{"all at once", func(f *family.Family) { f.Schema, f.Name, f.Members = 0, "a b", nil },
			[]string{"schema 0", `name "a b"`, "0 members"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := two()
			tt.change(f)
			err := f.Validate()
			if err == nil {
				t.Fatal("got no complaint")
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want it to say %q", err, part)
				}
			}
			b, err := f.Marshal()
			if err != nil {
				return // NaN and infinity have no JSON
			}
			if _, err := family.Parse(b); err == nil {
				t.Error("Parse took it")
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	sound, _ := two()
	b, err := sound.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":1,"name":"x","members":[{}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := family.Parse(b)
		if err != nil {
			return
		}
		again, err := got.Marshal()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		twin, err := family.Parse(again)
		if err != nil || twin.Digest() != got.Digest() {
			t.Errorf("written and read again: got %v, %v", twin, err)
		}
		for _, d := range got.Digests() {
			if !d.Valid() || strings.ContainsAny(string(d), "/.") {
				t.Errorf("digest %q of a sound manifest", d)
			}
		}
	})
}

func FuzzParseArch(f *testing.F) {
	f.Add([]byte(`{"wid":null,"ks":[3,5],"e":[3,4.5],"d":[2],"r":32}`))
	f.Add([]byte(`{"ks":[3],"e":[],"d":[2],"r":32}`))
	f.Add([]byte(`{"e":[1e308],"d":[-1],"w":[0],"r":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := family.ParseArch(b)
		if err != nil {
			return
		}
		if a.R <= 0 || len(a.E) == 0 || len(a.D) == 0 {
			t.Errorf("got %+v of %s", a, b)
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if twin, err := family.ParseArch(again); err != nil || !twin.Equal(a) {
			t.Errorf("written and read again: got %+v, %v; want %+v", twin, err, a)
		}
	})
}

func TestArchitectureThatIsNoneIsRefused(t *testing.T) {
	for _, s := range []string{``, `[]`, `{}`, `{"ks":[3],"e":[3],"d":[2]}`, `{"e":[3],"d":[2],"r":-1}`,
		`{"e":[3],"r":32}`,
		`{"e":["3"],"d":[2],"r":32}`, `{"e":[3],"d":[2.5],"r":32}`, `{"e":[3],"d":[2],"r":32} x`} {
		if a, err := family.ParseArch([]byte(s)); err == nil || !strings.Contains(err.Error(), "architecture") {
			t.Errorf("%s: got %+v, %v; want an error about the architecture", s, a, err)
		}
	}
}

func TestParetoHoldsWhatNothingBeats(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	for round := range 500 {
		points := make([]family.Point, rng.IntN(20))
		for i := range points {
			points[i] = family.Point{Cost: float64(rng.IntN(10)), Top1: float64(rng.IntN(10)) / 10} // many ties
		}
		front := family.Pareto(points)
		for i := 1; i < len(front); i++ {
			if a, b := points[front[i-1]], points[front[i]]; b.Cost <= a.Cost || b.Top1 <= a.Top1 {
				t.Fatalf("round %d: %v is followed by %v", round, a, b)
			}
		}
		for i, p := range points {
			covered := slices.ContainsFunc(front, func(j int) bool {
				return points[j].Cost <= p.Cost &&
					points[j].Top1 >= p.Top1
			})
			if !covered {
				t.Fatalf("round %d: nothing on the front is as good as %v", round, p)
			}
			twin := slices.Index(points, p)
			if slices.Contains(front, i) && twin != i {
				t.Fatalf("round %d: %d is on the front, the equal %d before it is not", round, i, twin)
			}
		}
	}
}

func TestFolderHandsOutOnlyWhatItsDigestNames(t *testing.T) {
	f, tree := two()
	tree[family.ManifestFile] = &fstest.MapFile{Data: mustMarshal(t, f)}
	open := mustOpen(t, tree)
	if n := len(open.Digests()); n != 5 {
		t.Errorf("got %d digests, want the supernet's and two of each member", n)
	}
	for _, d := range open.Digests() {
		if b, err := open.Blob(d); err != nil || family.DigestOf(b) != d {
			t.Errorf("blob %s: got %q, %v", d.Short(), b, err)
		}
	}
	for _, tt := range []struct {
		name   string
		digest family.Digest
		file   string
		change func(name string)
		says   []string
	}{
		{"M1 damaged", f.Members[0].Stats, family.BlobFile(f.Members[0].Stats),
			func(name string) { tree[name].Data = []byte("other") }, []string{"holds other bytes"}},
		{"M1 supernet damaged", f.Supernet, family.SupernetFile, func(name string) { tree[name].Data = []byte("other") },
			[]string{"supernet.pth holds other bytes"}},
		{"missing", f.Members[1].Canary, family.BlobFile(f.Members[1].Canary), func(name string) { delete(tree, name) },
			[]string{"has no file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.change(tt.file)
			_, err := open.Blob(tt.digest)
			complains(t, err, append(tt.says, tt.digest.Short())...)
		})
	}
	t.Run("no digest", func(t *testing.T) {
		_, err := open.Blob("../family.json")
		complains(t, err, "not a SHA-256 digest")
	})
}

func TestFolderWithoutASoundManifestIsNotOpened(t *testing.T) {
	f, _ := two()
	f.Name = "a b"
	for name, tree := range map[string]fs.FS{
		"none":      fstest.MapFS{},
		"no JSON":   fstest.MapFS{family.ManifestFile: {Data: []byte("x")}},
		"not sound": fstest.MapFS{family.ManifestFile: {Data: mustMarshal(t, f)}},
	} {
		if _, err := family.OpenFolder(tree); err == nil || !strings.Contains(err.Error(), "family") {
			t.Errorf("%s: got %v, want an error about the family", name, err)
		}
	}
}

func TestM6_M19_ProfileFitsOneFamilyRuntimeAndOptions(t *testing.T) {
	f, _ := two()
	profile := func() *family.Profile {
		return &family.Profile{Schema: family.Schema, Family: f.Digest(), Runtime: "1.30.0", Options: "cpu/1",
			Batch:   family.Batch,
			Members: []family.MemberProfile{{Name: "small", P50ms: 2}, {Name: "large", P50ms: 4}}}
	}
	if !profile().Fits(f, "1.30.0", "cpu/1") {
		t.Error("the profile does not fit its own family")
	}
	for name, change := range map[string]func(p *family.Profile){
		"schema":            func(p *family.Profile) { p.Schema = 2 },
		"family":            func(p *family.Profile) { p.Family = family.DigestOf(nil) },
		"runtime":           func(p *family.Profile) { p.Runtime = "1.31.0" },
		"options":           func(p *family.Profile) { p.Options = "cpu/2" },
		"batch":             func(p *family.Profile) { p.Batch = 0 }, // taken before there were any
		"members":           func(p *family.Profile) { p.Members = p.Members[:1] },
		"names":             func(p *family.Profile) { p.Members[0].Name = "tiny" },
		"no latency":        func(p *family.Profile) { p.Members[1].P50ms = 0 },
		"latency no number": func(p *family.Profile) { p.Members[1].P50ms = math.NaN() },
	} {
		p := profile()
		change(p)
		if p.Fits(f, "1.30.0", "cpu/1") {
			t.Errorf("%s differs: the profile fits", name)
		}
	}
	p := profile()
	p.Members[0].P50ms = 5
	if got := p.Front(f); !slices.Equal(got, []int{1}) {
		t.Errorf("got front %v, want the large member alone: it is faster here", got)
	}
}

func TestFloatsSurviveWritingAndReading(t *testing.T) {
	want := []float32{0, -1.5, math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(-1))}
	got, err := family.Floats(family.FloatBytes(want))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for n := range 4 {
		if _, err := family.Floats(make([]byte, n)); (err == nil) != (n == 0) {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
}

func mustMarshal(t *testing.T, f *family.Family) []byte {
	t.Helper()
	b, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustOpen(t *testing.T, tree fs.FS) *family.Folder {
	t.Helper()
	f, err := family.OpenFolder(tree)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func complains(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("got %v, want it to say %q", err, part)
		}
	}
}
