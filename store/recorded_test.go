//go:build linux

package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The system calls of a store are recorded by strace, not by a wrapper of the file's
// methods: bbolt writes through *os.File, which cannot be wrapped, and what matters is
// what the kernel is told.

const recordedEnv = "STORE_TEST_RECORDED_FOLDER"

// recordedMemory lets 24 KiB be logged at most.
const recordedMemory = 96 << 10

// TestRecordedChild is the run that is recorded. It tells what it does, as
// TestCrashChild.
func TestRecordedChild(t *testing.T) {
	dir := os.Getenv(recordedEnv)
	if dir == "" {
		t.Skip("runs only as the child of TestS2")
	}
	for range 2 {
		o, err := OpenOutbox(dir, OutboxOptions{Memory: recordedMemory}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- o.Run(ctx) }()
		var seqs []uint64
		for _, n := range []int{300, 300, 5000, 300, 9000, 300, 30, 30_000, 300} {
			seqs = append(seqs, appendTold(t, o, n)...)
			if n == 300 {
				deliverTold(o, seqs[len(seqs)-1])
			}
		}
		deliverTold(o, seqs[2:5]...)
		appendTold(t, o, 100)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
}

// appendTold appends two records of n bytes and waits until they are durable.
func appendTold(t *testing.T, o *Outbox, n int) (seqs []uint64) {
	durable := make(chan struct{})
	for range 2 {
		seq, err := o.Append(func(seq uint64) (Record, error) {
			tell("append", seq, uint64(Results))
			return Record{Topic: "t", Payload: payload(seq, n), Job: jobOf(seq), Request: DigestOf([]byte(jobOf(seq)))}, nil
		}, func() { durable <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, seq)
	}
	for _, seq := range seqs {
		<-durable
		tell("durable", seq)
	}
	return seqs
}

func deliverTold(o *Outbox, seqs ...uint64) {
	for _, seq := range seqs {
		tell("deliver", seq)
	}
	o.Delivered(seqs...)
}

// A call is a system call, in the order in which they ended, or something told.
type call struct {
	name string // of the system call; "tell"
	file string // its name in the folder; "." is the folder
	at   int64  // where it writes; the new size of ftruncate
	data []byte // what it writes or tells
	sync bool   // it is on the disk when it returns
}

// mustRecord returns the calls of a run of TestRecordedChild.
func mustRecord(t *testing.T) []call {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed; see apt-get install strace")
	}
	dir, trace := t.TempDir(), filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "-y", "-xx", "-s", strconv.Itoa(2*journalSize), "-o", trace, "-e",
		"trace=openat,pwrite64,write,fdatasync,fsync,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat",
		os.Args[0], "-test.run=^TestRecordedChild$")
	cmd.Env = append(os.Environ(), recordedEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); bytes.Contains(out, []byte("PTRACE_TRACEME")) {
		t.Skipf("no process may be traced here: %s", out)
	} else if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := recording{dir: dir + "/", begun: map[string]string{}, synced: map[string]bool{}}
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16*journalSize)
	for in.Scan() {
		if err := r.line(in.Text()); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	return r.calls
}

// A recording is read from what strace writes.
type recording struct {
	dir    string
	begun  map[string]string // by thread: of a call that was interrupted in the listing
	synced map[string]bool   // files open with O_DSYNC
	calls  []call
}

// line reads a line: the thread, and a call of it, a part of one, or its end.
func (r *recording) line(line string) error {
	thread, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimLeft(rest, " ")
	if resumed, ok := strings.CutPrefix(rest, "<... "); ok {
		name, more, _ := strings.Cut(resumed, " resumed>")
		begun := r.begun[thread]
		delete(r.begun, thread)
		return r.call(name, begun+more)
	}
	name, args, ok := strings.Cut(rest, "(")
	switch {
	case !ok:
		return nil // the end of the thread
	case name == "write": // before anything that it announces, so when it begins
		return r.tell(args)
	}
	if begun, more := strings.CutSuffix(args, "<unfinished ...>"); more {
		r.begun[thread] = begun
		return nil
	}
	return r.call(name, args)
}

func (r *recording) tell(args string) error {
	told, err := unhex(args[strings.Index(args, `"`)+1:])
	if strings.HasPrefix(args, "1<") && err == nil {
		r.calls = append(r.calls, call{name: "tell", data: told})
	}
	return err
}

// call takes in a call that ended: 5<path>, argument, argument) = 0. Those on other
// files, and those that failed, are left out.
func (r *recording) call(name, args string) error {
	end := strings.LastIndex(args, ") = ")
	if end < 0 {
		end = strings.LastIndex(args, ")  ") // results are aligned
	}
	_, fd, ok := strings.Cut(args, "<")
	if name == "write" || !ok || end < 0 || strings.Contains(args[end:], "= -1") {
		return nil
	}
	named, rest, _ := strings.Cut(args[len(args)-len(fd):end], ">")
	rest = strings.TrimPrefix(rest, ", ")
	if name == "openat" || name == "unlinkat" || strings.HasPrefix(name, "rename") {
		named = strings.TrimPrefix(rest, `"`)
	}
	path, err := unhex(named)
	if err != nil {
		return fmt.Errorf("%s(%.200s: %w", name, args, err)
	}
	file, ours := strings.CutPrefix(string(path)+"/", r.dir)
	if !ours {
		return nil
	}
	return r.take(call{name: name, file: filepath.Clean(file)}, rest)
}

// take adds a call on a file of the folder.
func (r *recording) take(c call, args string) (err error) {
	fields := strings.Split(args, ", ")
	switch c.name {
	case "openat":
		r.synced[c.file] = strings.Contains(args, "O_DSYNC") || r.synced[c.file] && strings.Contains(args, "O_RDONLY")
		if !strings.Contains(args, "O_CREAT") {
			return nil
		}
	case "pwrite64":
		if c.data, err = unhex(strings.TrimPrefix(fields[0], `"`)); err == nil {
			c.at, err = strconv.ParseInt(strings.TrimSpace(fields[2]), 10, 64)
		}
		c.sync = r.synced[c.file]
	case "ftruncate":
		c.at, err = strconv.ParseInt(strings.TrimSpace(fields[0]), 10, 64)
	case "fdatasync", "fsync", "unlinkat":
	default:
		return fmt.Errorf("%s on %s: this test does not know what becomes of it", c.name, c.file)
	}
	r.calls = append(r.calls, c)
	return err
}

// unhex reads \x61\x62 up to the end of the string that it is in.
func unhex(s string) ([]byte, error) {
	s, _, _ = strings.Cut(s, `"`)
	return hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
}

// An image is a file: what of it is on the disk, and what the system may have written
// since, each of it or not, in any order.
type image struct {
	named   bool // its name is on the disk
	durable []byte
	loose   []call
}

// A disk is what a power cut finds.
type disk struct {
	files map[string]*image
	told  told
}

func newDisk() *disk {
	return &disk{files: map[string]*image{}, told: newTold()}
}

// do has a call take effect.
func (d *disk) do(c call) {
	f := d.files[c.file]
	switch {
	case c.name == "tell":
		d.told.read(string(c.data))
	case c.name == "openat" && f == nil:
		d.files[c.file] = &image{}
	case c.name == "unlinkat":
		delete(d.files, c.file)
	case c.name == "fsync" && c.file == ".":
		for _, f := range d.files {
			f.named = true
		}
	case c.name == "fsync", c.name == "fdatasync":
		f.durable, f.loose = f.with(f.loose...), nil
	case c.sync:
		f.durable = applied(f.durable, c)
	case c.name == "pwrite64", c.name == "ftruncate":
		f.loose = append(f.loose, c)
	}
}

// with returns the content if of what is loose only those calls took effect.
func (f *image) with(calls ...call) []byte {
	b := bytes.Clone(f.durable)
	for _, c := range calls {
		b = applied(b, c)
	}
	return b
}

// applied returns b after a call that writes.
func applied(b []byte, c call) []byte {
	end := int(c.at) + len(c.data)
	if c.name == "ftruncate" {
		b = b[:min(len(b), end)]
	}
	if len(b) < end {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[c.at:], c.data)
	return b
}

// torn returns the parts of a write of which a power cut may leave one, cut at each
// sector.
func torn(c call) (parts []call) {
	const sector = 512
	step := sector
	if len(c.data) > 16*journalBlock { // the zeros that a file is made of
		step = len(c.data) / 8
	}
	for n := step; n < len(c.data); n += step {
		front, back := c, c
		front.data = c.data[:n]
		back.data, back.at = c.data[n:], c.at+int64(n)
		parts = append(parts, front, back)
	}
	return parts
}

// cuts calls each with what the folder may hold, by names, if the power is cut during
// the call or right after it.
func (d *disk) cuts(c call, each func(what string, folder func() map[string][]byte)) {
	f := d.files[c.file]
	put := func(what string, calls ...call) {
		each(what, func() map[string][]byte {
			folder := d.killed()
			folder[c.file] = f.with(calls...)
			return folder
		})
	}
	if c.name == "pwrite64" {
		for i, part := range torn(c) {
			put(fmt.Sprint("torn ", i), append(slices.Clone(f.loose), part)...)
			if len(f.loose) > 0 {
				put(fmt.Sprint("torn alone ", i), part)
			}
		}
	}
	d.do(c)
	each("killed", d.killed)
	if f = d.files[c.file]; f == nil || c.name == "tell" {
		return
	}
	for i, one := range f.loose {
		put(fmt.Sprint("only ", i), one)
		put(fmt.Sprint("without ", i), slices.Delete(slices.Clone(f.loose), i, i+1)...)
	}
	each("cut", d.cut)
}

// killed is the folder after a kill: the system has it all.
func (d *disk) killed() map[string][]byte {
	folder := map[string][]byte{}
	for name, f := range d.files {
		folder[name] = f.with(f.loose...)
	}
	return folder
}

// cut is the folder if nothing was written that did not have to be.
func (d *disk) cut() map[string][]byte {
	folder := map[string][]byte{}
	for name, f := range d.files {
		if f.named {
			folder[name] = bytes.Clone(f.durable)
		}
	}
	return folder
}

// quickFolder is where files are kept in memory, or where temporary files go: what is
// opened has had its power cut.
func quickFolder() string {
	if exists("/dev/shm") {
		return "/dev/shm"
	}
	return os.TempDir()
}

// wantPromise opens a folder and checks that it keeps what was promised.
func wantPromise(t *testing.T, what string, folder map[string][]byte, said told) {
	t.Helper()
	dir, err := os.MkdirTemp(quickFolder(), "promise")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, content := range folder {
		mustPut(t, filepath.Join(dir, name), string(content))
	}
	o, err := OpenOutbox(dir, OutboxOptions{Memory: recordedMemory, NoSync: true}, quiet())
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	defer o.Close()
	left := map[uint64]bool{}
	for _, seq := range backlog(t, o) {
		if _, ok := said.appended[seq]; left[seq] || !ok {
			t.Errorf("%s: record %d is there twice, or was never appended", what, seq)
		}
		left[seq] = true
	}
	for seq := range said.durable {
		if !left[seq] && !said.delivered[seq] {
			t.Errorf("%s: record %d was durable and is gone", what, seq)
		}
		if r, err := o.Answer(jobOf(seq)); jobOf(seq) != "" && (err != nil || r.Seq != seq ||
			!bytes.HasPrefix(r.Payload, payload(seq, 20))) {
			t.Errorf("%s: answer of %s is %d, %v; want %d", what, jobOf(seq), r.Seq, err, seq)
		}
	}
	last := slices.Max(append(slices.Collect(maps.Keys(said.appended)), 0))
	if next := mustAppend(t, o, 10, nil); next <= last {
		t.Errorf("%s: number %d is used again", what, next)
	}
}

// What a kill or a power cut leaves of a store, at every system call and in the middle
// of each, keeps the promise: what was called durable is there, nothing else than what
// was appended, and no number is used twice. The system may write what is not synced
// in any order, and sectors of 512 bytes each.
func TestS2_EveryPrefixOfTheWritesKeepsThePromise(t *testing.T) {
	t.Parallel()
	d, n := newDisk(), 0
	for i, c := range mustRecord(t) {
		d.cuts(c, func(what string, folder func() map[string][]byte) {
			if n++; n%everyCut == 0 || what == "killed" && c.name != "tell" {
				wantPromise(t, fmt.Sprintf("call %d, %s of %s at %d, %s", i, c.name, c.file, c.at, what), folder(), d.told)
			}
		})
		if t.Failed() {
			return
		}
	}
	if len(d.told.durable) < 30 {
		t.Errorf("%d records were called durable, want more: the recording is not complete", len(d.told.durable))
	}
	t.Logf("%d states, one in %d opened", n, everyCut)
}
