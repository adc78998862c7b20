package ofa

import (
	"slices"
	"strings"
	"testing"
)

// asmNet is a state_dict of two tensors under a prefix; the number of the storage
// tells them apart from another one's.
func asmNet(prefix, storage string) string {
	tensor := asmTensor(asmStorage("FloatStorage", storage, 1), 0, asmInts(1), asmInts(1))
	return asmDict(asmText(prefix+"a.weight"), tensor, asmText(prefix+"b.weight"), tensor)
}

// wrappedFile is a checkpoint of an object whose storages are 1, 2 and 3, and hold
// their number.
func wrappedFile(object string) []byte {
	return legacyFile(object, legacyStorage{"1", 1, "\x00\x00\x80\x3f"}, legacyStorage{"2", 1, "\x00\x00\x00\x40"},
		legacyStorage{"3", 1, "\x00\x00\x40\x40"})
}

// unused declares storages that an object does not use otherwise.
func unused(storages ...string) string {
	items := []string{}
	for _, s := range storages {
		items = append(items, asmTensor(asmStorage("FloatStorage", s, 1), 0, asmInts(1), asmInts(1)))
	}
	return asmText("unused") + asmList(items...)
}

func TestWhatTrainingToolsWrapIsReadAndSaid(t *testing.T) {
	bare := asmNet("", "1")
	under := func(items ...string) string { return asmDict(append(items, unused("1", "2", "3"))...) }
	scalar := asmTensor(asmStorage("FloatStorage", "3", 1), 0, asmTuple(), asmTuple())
	for _, tt := range []struct {
		name   string
		object string
		want   float32
		says   string
	}{
		{"bare", asmDict(asmText("a.weight"), asmTensor(asmStorage("FloatStorage", "1", 1), 0, asmInts(1), asmInts(1)),
			asmText("b.weight"), asmTensor(asmStorage("FloatStorage", "1", 1), 0, asmInts(1), asmInts(1)), unused("2", "3")), 1,
			""},
		{"state_dict", under(asmText("state_dict"), bare), 1, ""},
		{"model_state_dict", under(asmText("epoch"), asmInt(3), asmText("model_state_dict"), bare), 1,
			"what is under 'model_state_dict'"},
		{"model", under(asmText("model"), bare), 1, "what is under 'model'"},
		{"net", under(asmText("net"), bare), 1, "what is under 'net'"},
		{"ema", under(asmText("ema"), bare), 1, "what is under 'ema'"},
		{"module.", under(asmText("state_dict"), asmNet("module.", "1")), 1, "what is under 'state_dict', without " +
			"'module.' before the names"},
		{"_orig_mod.", under(asmText("net"), asmNet("_orig_mod.", "1")), 1, "what is under 'net', without '_orig_mod.' " +
			"before the names"},
		{"both", under(asmText("net"), asmNet("module._orig_mod.", "1")), 1, "without 'module._orig_mod.' before the names"},
		{"both, the other way round", under(asmText("net"), asmNet("_orig_mod.module.", "1")), 1,
			"without '_orig_mod.module.' before the names"},
		{"twice", under(asmText("net"), asmNet("module.module.", "1")), 1, "without 'module.module.' before the names"},
		{"model.", under(asmText("state_dict"), asmNet("model.", "1")), 1, "without 'model.' before the names"},
		{"module in ema", under(asmText("ema"), asmDict(asmText("decay"), asmInt(1), asmText("module"), bare)), 1,
			"what is under 'ema', 'module' in it"},
		{"state_dict in model", under(asmText("model"), asmDict(asmText("state_dict"), bare)), 1,
			"what is under 'model', 'state_dict' in it"},
		{"a score beside it", under(asmText("best_acc"), scalar, asmText("net"), bare), 1, "what is under 'net'"},
		{"state_dict before all", under(asmText("ema"), asmNet("", "2"), asmText("model"), asmNet("", "3"),
			asmText("state_dict"), bare), 1, "what is under 'state_dict'; left is 'model', 'ema'"},
		{"weights before their averages", under(asmText("ema"), asmNet("", "2"), asmText("model"), bare), 1,
			"what is under 'model'; left is 'ema'"},
		{"model_state_dict before net", under(asmText("net"), asmNet("", "2"), asmText("model_state_dict"), bare), 1,
			"what is under 'model_state_dict'; left is 'net'"},
		{"an empty one is none", under(asmText("state_dict"), "}", asmText("net"), bare), 1, "what is under 'net'"},
		{"the last of a name", under(asmText("net"), asmNet("", "2"), asmText("net"), bare), 1, "what is under 'net'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ReadCheckpoint(wrappedFile(tt.object))
			if err != nil {
				t.Fatal(err)
			}
			a, _ := c.Tensor("a.weight")
			b, _ := c.Tensor("b.weight")
			if want := []float32{tt.want}; !slices.Equal(a.Data, want) || !slices.Equal(b.Data, want) {
				t.Errorf("got %v, %v of %q, want %v of a.weight and b.weight", a.Data, b.Data, c.Names(), want)
			}
			if c.Taken() != tt.says && !(tt.says != "" && strings.HasSuffix(c.Taken(), tt.says)) {
				t.Errorf("it says %q, want %q", c.Taken(), tt.says)
			}
		})
	}
}

func TestAPrefixOfSomeNamesStays(t *testing.T) {
	tensor := asmTensor(asmStorage("FloatStorage", "0", 1), 0, asmInts(1), asmInts(1))
	c, err := ReadCheckpoint(legacyFile(asmDict(asmText("module.a"), tensor, asmText("b.c"), tensor), zeros(1)))
	if err != nil || !slices.Equal(c.Names(), []string{"module.a", "b.c"}) || c.Taken() != "" {
		t.Errorf("got %q, %v, said %q", c.Names(), err, c.Taken())
	}
}

func TestWrappersThatHoldEachOtherEnd(t *testing.T) {
	// A dict of a hundred thousand items that is each of its own wrappers.
	self := "}q\x00("
	for _, name := range wrappers() {
		self += asmText(name) + "h\x00"
	}
	self += strings.Repeat("K\x01N", 60_000/2) + "u"
	wantRefusal(t, legacyFile(self), "holds no state_dict")
	deep := asmNet("", "0")
	for range maxWraps + 1 {
		deep = asmDict(asmText("net"), deep)
	}
	wantRefusal(t, legacyFile(deep, zeros(1)), "holds no state_dict")
	c, err := ReadCheckpoint(legacyFile(asmNet(strings.Repeat("module.", 9000), "0"), zeros(1)))
	if err != nil || len(c.Names()) != 2 || !strings.HasPrefix(c.Names()[0], "module.module.") {
		t.Errorf("got %v, want the names with what is left of their prefixes", err)
	}
}
