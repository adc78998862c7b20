package ofa

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// A small assembler for pickles of protocol 2, to write what torch.save never
// would. Each function returns the instructions that push one value.

const pickleHead = "\x80\x02"

func pickled(value string) string { return pickleHead + value + "." }

func asmText(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func asmInt(n int64) string {
	return "\x8a\x08" + string(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

func asmTuple(items ...string) string { return "(" + strings.Join(items, "") + "t" }
func asmList(items ...string) string  { return "](" + strings.Join(items, "") + "e" }
func asmDict(items ...string) string  { return "}(" + strings.Join(items, "") + "u" }

func asmInts(ns ...int64) string {
	var items []string
	for _, n := range ns {
		items = append(items, asmInt(n))
	}
	return asmTuple(items...)
}

func asmStorage(class, key string, numel int64) string {
	return asmTuple(asmText("storage"), "ctorch\n"+class+"\n", asmText(key), asmText("cpu"), asmInt(numel)) + "Q"
}

func asmTensor(storage string, offset int64, shape, stride string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n" +
		asmTuple(storage, asmInt(offset), shape, stride, "\x89", "ccollections\nOrderedDict\n)R") + "R"
}

// asmVector is a contiguous tensor of one dimension, all of a storage "0".
func asmVector(numel int64) string {
	return asmTensor(asmStorage("FloatStorage", "0", numel), 0, asmInts(numel), asmInts(1))
}

// legacyFile is a legacy container around an object pickle. A storage is given
// as its key and its numbers.
func legacyFile(object string, storages ...legacyStorage) []byte {
	const magic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
	b := []byte(pickled(magic) + pickled("M\xe9\x03") + pickled(asmDict(asmText("little_endian"), "\x88")) +
		pickled(object))
	var keys, data string
	for _, s := range storages {
		keys += asmText(s.key)
		data += string(binary.LittleEndian.AppendUint64(nil, uint64(s.numel))) + s.data
	}
	return append(b, pickled(asmList(keys))+data...)
}

type legacyStorage struct {
	key   string
	numel int64
	data  string
}

// zeros is the storage "0" with n float32 zeros.
func zeros(n int64) legacyStorage {
	return legacyStorage{"0", n, strings.Repeat("\x00\x00\x00\x00", int(n))}
}

// zipEntry is a file of a zip container; the zero method stores it.
type zipEntry struct {
	name, data string
	method     uint16
}

func zipContainerOf(tb testing.TB, entries ...zipEntry) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := w.CreateHeader(&zip.FileHeader{Name: e.name, Method: e.method})
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := f.Write([]byte(e.data)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// wantRefusal reads a file and wants an error that says so, at little cost.
func wantRefusal(t *testing.T, file []byte, want string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ReadCheckpoint(file)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	// What maxPickle permits at most, and copies of the file.
	allowed := uint64(64<<20 + 8*len(file))
	if got := after.TotalAlloc - before.TotalAlloc; got > allowed {
		t.Errorf("refusing %d bytes took %d bytes of memory, want at most %d", len(file), got, allowed)
	}
}

func TestAHandMadePickleIsRead(t *testing.T) {
	file := legacyFile(asmDict(asmText("w"), asmVector(2)), legacyStorage{"0", 2, "\x00\x00\x80\x3f\x00\x00\x00\x40"})
	c, err := ReadCheckpoint(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := c.Tensor("w"); fmt.Sprint(got) != "{[2] [1 2]}" {
		t.Errorf("got %v, want {[2] [1 2]}", got)
	}
}

func TestAPickleRunsNothing(t *testing.T) {
	for _, tt := range []struct{ name, object, want string }{
		{"a function of the system", "cos\nsystem\n" + asmTuple(asmText("id")) + "R", `the class "os.system" is refused`},
		{"a function named by protocol 4", asmText("builtins") + asmText("eval") + "\x93",
			`the class "builtins.eval" is refused`},
		{"a class of PyTorch that is not needed", "ctorch.hub\nload\n", `the class "torch.hub.load" is refused`},
		{"a class with an endless name", "c" + strings.Repeat("x", 1<<18) + "\ny\n", `xxx..." is refused`},
		{"an object by its class", "ccollections\nOrderedDict\n)\x81", "opcode 0x81 is not one"},
		{"an instance of protocol 0", "(iposix\nsystem\n", "opcode 0x69 is not one"},
		{"an extension", "\x82\x01", "opcode 0x82 is not one"},
		{"state of a tensor", asmVector(1) + "}b", "cannot set the state of a tensor"},
		{"state that is not a dict", "}" + asmTuple("}", "}") + "b", "cannot set the state of a dict to a tuple"},
		{"a call of a value", asmText("f") + ")R", "cannot call a str"},
		{"a call without a tuple", "ccollections\nOrderedDict\n}R", "with a dict"},
		{"a call of a storage class", "ctorch\nFloatStorage\n)R", "cannot be called"},
		{"an OrderedDict from items", "ccollections\nOrderedDict\n" + asmTuple("]") + "R", "1 arguments instead of none"},
		{"a parameter of something else", "ctorch._utils\n_rebuild_parameter\n" + asmTuple("N", "\x88", "N") + "R",
			"arguments are not a tensor"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRefusal(t, legacyFile(tt.object), tt.want) })
	}
}

func TestAPickleHasLimits(t *testing.T) {
	for _, tt := range []struct{ name, object, want string }{
		{"a string longer than the file", "X\xff\xff\x00\x00abc", "ends in the middle"},
		{"a string over the limit", "X\xff\xff\xff\xffabc", "longer than 65536"},
		{"a string that is not text", asmText("\xff\xfe"), "not UTF-8"},
		{"a stack that grows", strings.Repeat("]", 1<<17), "more than 65536 values are on the stack"},
		{"a nesting that grows", strings.Repeat("(", 1<<17), "nested more than 1000 deep"},
		{"a memo that grows", "]" + strings.Repeat("\x94", 1<<19), "more than 262144 values are memorised"},
		{"a value taken from nothing", "R", "not put on the stack"},
		{"a value taken from below a mark", "](a", "not put on the stack"},
		{"a mark that is missing", "]e", "not put on the stack"},
		{"a memo slot that is empty", "h\x07", "value 7 was never memorised"},
		{"a key without a value", "}(" + asmText("a") + "u", "a dict key has no value"},
		{"an item for a tuple", ")(]]u", "cannot set an item of a tuple"},
		{"an element for a dict", "}]a", "cannot append to a dict"},
		{"two results", "]]", "2 values and 0 open marks"},
		{"an open mark", "](", "1 values and 1 open marks"},
		{"a protocol of text", "\x80\x00", "protocol 0 is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRefusal(t, legacyFile(tt.object), tt.want) })
	}
	t.Run("pickles over the limit", func(t *testing.T) {
		wantRefusal(t, legacyFile(strings.Repeat(asmList(strings.Repeat("]", 1000)), 1100)), "exceed 1 MiB")
	})
}

func TestATensorStaysInsideItsStorage(t *testing.T) {
	four := asmStorage("FloatStorage", "0", 4)
	huge := int64(1) << 40
	for _, tt := range []struct{ name, tensor, want string }{
		{"too long", asmTensor(four, 0, asmInts(5), asmInts(1)), "reaches beyond the 4 elements"},
		{"too far", asmTensor(four, 4, asmInts(1), asmInts(1)), "reaches beyond"},
		{"before its start", asmTensor(four, -1, asmInts(2), asmInts(1)), "reaches beyond"},
		{"an empty one beyond the end", asmTensor(four, 5, asmInts(0), asmInts(1)), "reaches beyond"},
		{"a stride that overflows", asmTensor(four, 1, asmInts(3, 3), asmInts(1<<62, 1<<62)), "reaches beyond"},
		{"a shape that overflows", asmTensor(four, 0, asmInts(huge, huge, huge), asmInts(0, 0, 0)), "too large"},
		{"a negative size", asmTensor(four, 0, asmInts(-1), asmInts(1)), "dimension 0 is -1"},
		{"a size that is a string", asmTensor(four, 0, asmTuple(asmText("1")), asmInts(1)), "dimension 0 is a str"},
		{"shape and stride differ", asmTensor(four, 0, asmInts(2, 2), asmInts(1)), "differ in length"},
		{"nine dimensions", asmTensor(four, 0, asmInts(1, 1, 1, 1, 1, 1, 1, 1, 1), asmInts(1)), "9 dimensions"},
		{"one number unfolded to many", asmTensor(four, 0, asmInts(1<<20, 1<<10), asmInts(0, 0)),
			"more numbers than a file of"},
		{"no storage", asmTensor(asmInt(0), 0, asmInts(1), asmInts(1)), "the storage is an int"},
		{"a storage of an unknown class", asmTensor(asmStorage("QInt8Storage", "0", 4), 0, asmInts(1), asmInts(1)),
			`"torch.QInt8Storage" is refused`},
		{"a storage of negative length", asmTensor(asmStorage("FloatStorage", "0", -4), 0, asmInts(1), asmInts(1)),
			"a storage is not described"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantRefusal(t, legacyFile(asmDict(asmText("w"), tt.tensor), zeros(4)), tt.want)
		})
	}
}

func TestTheLegacyContainerIsChecked(t *testing.T) {
	const huge = 1 << 30
	vector := func(n int64) string { return asmDict(asmText("w"), asmVector(n)) }
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"a length that is not there", legacyFile(vector(huge), legacyStorage{"0", huge, "abcd"}),
			"do not fit into the 4 bytes left"},
		{"two lengths", legacyFile(vector(2), zeros(1)), "has 1 elements where 2 are declared"},
		{"a storage declared twice", legacyFile(asmDict(asmText("v"), asmVector(1), asmText("w"), asmVector(2)), zeros(2)),
			"declared twice, differently"},
		{"a storage that never follows", legacyFile(vector(2)), "not in the list of storages"},
		{"a storage that follows twice", legacyFile(vector(1), zeros(1), zeros(1)), "follows twice"},
		{"a storage nobody declared", legacyFile(vector(1), zeros(1), legacyStorage{"1", 0, ""}), "no tensor declares it"},
		{"a tensor twice", legacyFile(asmDict(asmText("w"), asmVector(1), asmText("w"), asmVector(1)), zeros(1)),
			`"w" is in the state_dict twice`},
		{"no tensor", legacyFile(asmDict(asmText("epoch"), asmInt(1))), "holds no state_dict"},
		{"only integers", legacyFile(asmDict(asmText("n"), asmTensor(asmStorage("LongStorage", "0", 0), 0, asmInts(0),
			asmInts(1))), zeros(0)), "holds no state_dict"},
		{"a list", legacyFile(asmList(asmVector(1)), zeros(1)), "the checkpoint is a list"},
		{"a state_dict that is none", legacyFile(asmDict(asmText("state_dict"), asmVector(1)), zeros(1)),
			"'state_dict' in the checkpoint is a tensor"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRefusal(t, tt.file, tt.want) })
	}
}

// Tensors that refer to one storage again and again are views of it; where they
// would have to be copied, the size of the file bounds the copies.
func TestAliasesCostNoMemory(t *testing.T) {
	const n = 1 << 16
	storage := asmStorage("FloatStorage", "0", n)
	var views, copies []string
	for i := range 1000 {
		name := asmText(fmt.Sprint(i))
		views = append(views, name, asmTensor(storage, 0, asmInts(n), asmInts(1)))
		copies = append(copies, name, asmTensor(storage, 0, asmInts(2, n/2), asmInts(1, 2)))
	}
	c, err := ReadCheckpoint(legacyFile(asmDict(views...), zeros(n)))
	if err != nil || len(c.Names()) != 1000 {
		t.Errorf("views: got %v, want 1000 tensors", err)
	}
	wantRefusal(t, legacyFile(asmDict(copies...), zeros(n)), "more numbers than a file of")
}

func TestTheZipContainerIsChecked(t *testing.T) {
	object := zipEntry{name: "x/data.pkl", data: pickled(asmDict(asmText("w"), asmVector(2)))}
	numbers := zipEntry{name: "x/data/0", data: "12345678"}
	deflated := numbers
	deflated.method = zip.Deflate
	for _, tt := range []struct {
		name    string
		entries []zipEntry
		want    string
	}{
		{"no data.pkl", []zipEntry{numbers}, "a zip archive without data.pkl"},
		{"data.pkl at the top", []zipEntry{{name: "data.pkl", data: object.data}}, "without data.pkl"},
		{"two of a name", []zipEntry{object, numbers, numbers}, `"x/data/0" is there twice`},
		{"two objects", []zipEntry{object, {name: "y/data.pkl", data: object.data}, numbers}, "holds two objects"},
		{"a storage is missing", []zipEntry{object}, `"data/0" is missing`},
		{"a storage is compressed", []zipEntry{object, deflated}, "compressed or encrypted"},
		{"a storage is short", []zipEntry{object, {name: "x/data/0", data: "1234567"}}, "7 bytes are not the 2 elements"},
		{"a storage is long", []zipEntry{object, {name: "x/data/0", data: "123456789"}}, "9 bytes are not the 2 elements"},
		{"big-endian", []zipEntry{object, numbers, {name: "x/byteorder", data: "big"}}, `byte order is "big"`},
		{"an endless byte order", []zipEntry{object, numbers, {name: "x/byteorder", data: strings.Repeat("little", 9)}},
			"54 bytes are more than 16"},
		{"a huge data.pkl", []zipEntry{{name: "x/data.pkl", data: strings.Repeat("x", maxPickle+1)}},
			"are more than 1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRefusal(t, zipContainerOf(t, tt.entries...), tt.want) })
	}
	little := zipEntry{name: "x/byteorder", data: "little"}
	if _, err := ReadCheckpoint(zipContainerOf(t, object, little, numbers)); err != nil {
		t.Errorf("little-endian: got %v, want no error", err)
	}
}

// Entries of a crafted archive may all point at the same bytes.
func TestOverlappingZipEntriesCostNoMemory(t *testing.T) {
	const n = 1 << 10
	var items []string
	entries := []zipEntry{{}} // data.pkl, below
	for i := range 8 {
		key := fmt.Sprint(i)
		items = append(items, asmText(key), asmTensor(asmStorage("FloatStorage", key, n), 0, asmInts(n), asmInts(1)))
		entries = append(entries, zipEntry{name: "x/data/" + key, data: strings.Repeat("\x00", 4*n)})
	}
	entries[0] = zipEntry{name: "x/data.pkl", data: pickled(asmDict(items...))}
	wantRefusal(t, overlap(zipContainerOf(t, entries...), "x/data/0"), "the storages claim more bytes than the file has")
}

// overlap drops all entries after the named one but leaves their lines in the
// directory, which then point at the named one. Names in front of the data are
// not compared by readers.
func overlap(archive []byte, name string) []byte {
	keep := bytes.Index(archive, []byte(name)) - 30
	next := keep + 4 + bytes.Index(archive[keep+4:], []byte("PK\x03\x04"))
	directory := bytes.Index(archive, []byte("PK\x01\x02"))
	out := bytes.Clone(archive[:next])
	for line := directory; string(archive[line:line+4]) == "PK\x01\x02"; {
		size := 46 + int(binary.LittleEndian.Uint16(archive[line+28:])) + int(binary.LittleEndian.Uint16(archive[line+30:]))
		entry := bytes.Clone(archive[line : line+size])
		if line != directory {
			binary.LittleEndian.PutUint32(entry[42:], uint32(keep))
		}
		out = append(out, entry...)
		line += size
	}
	end := bytes.Clone(archive[bytes.LastIndex(archive, []byte("PK\x05\x06")):])
	binary.LittleEndian.PutUint32(end[16:], uint32(next))
	return append(out, end...)
}
