package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/store"
)

// A keeper keeps records, each way that is compared.
type keeper interface {
	// keep returns when the records are kept.
	keep(records [][]byte) error
	// drop lets go of what was kept last: somebody has it.
	drop() error
	close() error
}

// outbox is ours: the records of a group are appended at once, and durable together.
type outbox struct {
	*store.Outbox
	stop func() error
	last []uint64
}

func openOutbox(dir string, opts store.OutboxOptions) (*outbox, error) {
	box, err := store.OpenOutbox(dir, opts, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- box.Run(ctx) }()
	return &outbox{Outbox: box, stop: func() error {
		cancel()
		return errors.Join(<-ended, box.Close())
	}}, nil
}

func (o *outbox) keep(records [][]byte) error {
	var durable sync.WaitGroup
	durable.Add(len(records))
	o.last = o.last[:0]
	for _, r := range records {
		seq, err := o.Append(func(uint64) (store.Record, error) {
			return store.Record{Topic: benchTopic, Payload: r, Stream: store.Live}, nil
		}, durable.Done)
		if err != nil {
			return err
		}
		o.last = append(o.last, seq)
	}
	durable.Wait()
	return nil
}

func (o *outbox) drop() error {
	o.Delivered(o.last...)
	return nil
}

func (o *outbox) close() error { return o.stop() }

// rawLog is what no store can do without: appending the group, a checksum each, and
// one fdatasync.
type rawLog struct {
	f *os.File
	b []byte
}

func openRawLog(path string) (*rawLog, error) {
	f, err := os.Create(path)
	return &rawLog{f: f}, err
}

func (l *rawLog) keep(records [][]byte) error {
	table := crc32.MakeTable(crc32.Castagnoli)
	l.b = l.b[:0]
	for _, r := range records {
		l.b = append(append(l.b, benchTopic...), r...)
		l.b = binary.BigEndian.AppendUint32(l.b, crc32.Checksum(r, table))
	}
	if _, err := l.f.Write(l.b); err != nil {
		return err
	}
	return syscall.Fdatasync(int(l.f.Fd()))
}

func (l *rawLog) drop() error  { return nil }
func (l *rawLog) close() error { return l.f.Close() }

// transactions keeps each record in a transaction of bbolt.
type transactions struct {
	*store.Store
	next int
}

func openTransactions(dir string) (*transactions, error) {
	s, err := store.Open(dir, store.Options{}, slog.New(slog.DiscardHandler))
	return &transactions{Store: s}, err
}

func (t *transactions) keep(records [][]byte) error {
	for _, r := range records {
		t.next++
		if err := t.SetCell(fmt.Sprintf("%020d", t.next), r); err != nil {
			return err
		}
	}
	return nil
}

func (t *transactions) drop() error  { return nil }
func (t *transactions) close() error { return t.Close() }

// files keeps each record as the client library does, in a file that is not synced.
type files struct {
	store mqtt.FileStore
	last  uint16
	kept  int
}

func openFiles(dir string) *files { return &files{store: mqtt.OpenFileStore(dir)} }

func (f *files) keep(records [][]byte) error {
	for _, r := range records {
		f.last++
		f.store.Put(f.last, mqtt.Message{Topic: benchTopic, Payload: r, QoS: 1})
	}
	f.kept = len(records)
	return nil
}

func (f *files) drop() error {
	for i := range f.kept {
		f.store.Delete(f.last - uint16(i))
	}
	return nil
}

func (f *files) close() error {
	f.store.Close()
	return nil
}

// openKeepers opens all of them in a folder, ours first.
func openKeepers(dir string) (k [4]keeper, err error) {
	ours, err := openOutbox(filepath.Join(dir, "outbox"), store.OutboxOptions{})
	if err != nil {
		return k, err
	}
	raw, err := openRawLog(filepath.Join(dir, "raw"))
	if err != nil {
		return k, errors.Join(err, ours.close())
	}
	txs, err := openTransactions(filepath.Join(dir, "transactions"))
	if err != nil {
		return k, errors.Join(err, ours.close(), raw.close())
	}
	return [4]keeper{ours, raw, txs, openFiles(filepath.Join(dir, "files"))}, nil
}

// written is how many bytes this process has had written to disks; 0 on a file system
// in memory.
func written() (int64, error) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\nwrite_bytes: ")
	count, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseInt(count, 10, 64)
}
