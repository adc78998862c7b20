package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/limber-edge/limber/agent/bench/figure"
	"github.com/limber-edge/limber/store"
)

// OutboxRounds is how often each figure of Outbox is measured.
const OutboxRounds = 5

// Outbox measures what it takes to keep results until the broker has them.
func Outbox(ctx context.Context, b Bench) error {
	o := outboxBench{Bench: b, rounds: OutboxRounds, groups: 100, few: 2, slow: 300,
		backlog: 10_000, spell: time.Second, rate: 1000, idle: 75 * time.Second}
	return o.run(ctx)
}

// What is kept: records of as many bytes as a result takes, topic and payload, in groups
// of as many as the outbox commits at once.
const (
	recordBytes = 512
	groupOf     = 64
	benchTopic  = "limber/lab/bench/result/0"
)

// outboxBench keeps records in each way that is compared.
type outboxBench struct {
	Bench
	rounds  int
	groups  int           // in a round, of ours and of the raw log
	few     int           // in a round, of what is slow
	slow    int           // records in a round of amplification
	backlog int           // records that wait when they are drained
	spell   time.Duration // for which jobs are sent in a turn
	rate    int           // of them, a second
	idle    time.Duration // until an outbox that has nothing to do was compacted
}

func (b *outboxBench) run(ctx context.Context) error {
	b.Note("records of %d bytes, in groups of %d; ours is durable as Run works, the raw log is one write, a CRC32C each "+
		"and one fdatasync a group", recordBytes, groupOf)
	for _, part := range []func(context.Context) error{b.keep, b.amplification, b.size, b.link} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// newGroup is a group of records of noise.
func newGroup(n int) (records [][]byte) {
	random := rand.NewChaCha8([32]byte{byte(n)})
	for range n {
		r := make([]byte, recordBytes-len(benchTopic))
		random.Read(r)
		records = append(records, r)
	}
	return records
}

// folder makes a folder of its own.
func (b *outboxBench) folder(name string) (string, error) {
	dir := filepath.Join(b.Dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// keep measures how fast groups are kept, and how long one takes at worst.
func (b *outboxBench) keep(ctx context.Context) (err error) {
	dir, err := b.folder("keep")
	if err != nil {
		return err
	}
	all, err := openKeepers(dir)
	if err != nil {
		return err
	}
	defer func() {
		for _, k := range all {
			err = errors.Join(err, k.close())
		}
	}()
	var rates, worst [len(all)]figure.Sample
	for round := range b.rounds {
		b.Progress.Tell("append", round, b.rounds)
		var times [len(all)]figure.Sample
		for range turns {
			for i, k := range all {
				n := b.groups / turns
				if i > 1 {
					n = b.few
				}
				took, err := groups(ctx, k, n)
				if err != nil {
					return err
				}
				times[i] = append(times[i], took...)
			}
		}
		for i, took := range times {
			rates[i], worst[i] = append(rates[i], rate(took)), append(worst[i], took.Percentile(99))
		}
	}
	b.Progress.End()
	return errors.Join(
		b.Print(figure.New("outbox", "append", "1/s", rates[0], rates[1], 0.3, 0.6).Rising()),
		b.Print(figure.New("outbox", "p99", "ms", worst[0], worst[1], 3, 1.5)),
		b.Print(figure.New("outbox", "append a transaction each", "1/s", rates[0], rates[2], 10, 30).Rising()),
		b.Print(figure.New("outbox", "append in the client's files", "1/s", rates[0], rates[3], 1, 3).Rising()))
}

// groups keeps n groups, and returns how long each took, in milliseconds.
func groups(ctx context.Context, k keeper, n int) (took figure.Sample, err error) {
	records := newGroup(groupOf)
	return repeat(ctx, n, func() (float64, error) {
		start := time.Now()
		err := k.keep(records)
		ms := float64(time.Since(start)) / 1e6
		return ms, errors.Join(err, k.drop())
	})
}

// rate is records a second.
func rate(took figure.Sample) float64 {
	sum := 0.0
	for _, ms := range took {
		sum += ms
	}
	return float64(groupOf*len(took)) / sum * 1000
}

// amplification measures the bytes that are written for a byte of a record, at twenty
// records a second: ours is durable 20 ms after it was appended. A disk writes blocks
// of 4 KiB: what syncs a record of 512 bytes alone writes eight times as much, whatever
// else it does, so the base is the raw log in the same groups.
func (b *outboxBench) amplification(ctx context.Context) (err error) {
	dir, err := b.folder("amplification")
	if err != nil {
		return err
	}
	ours, err := openOutbox(filepath.Join(dir, "outbox"), store.OutboxOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.close()) }()
	raw, err := openRawLog(filepath.Join(dir, "raw"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, raw.close()) }()
	var mine, base figure.Sample
	for round := range b.rounds {
		b.Progress.Tell("amplification", round, b.rounds)
		for _, one := range []struct {
			k      keeper
			sample *figure.Sample
		}{{ours, &mine}, {raw, &base}} {
			times, err := b.times(ctx, one.k)
			if err != nil {
				return err
			}
			*one.sample = append(*one.sample, times)
		}
	}
	b.Progress.End()
	if base.Median() == 0 {
		b.Note("amplification: nobody counts what is written to this file system")
		return nil
	}
	b.Note("  bytes written for one of a record; at most 3 cannot be had of blocks of 4 KiB and groups of one record")
	return b.Print(figure.New("outbox", "amplification at 20/s", "1", mine, base, 1.5, 1.2))
}

// times is how many bytes are written for one of a record, kept one by one.
func (b *outboxBench) times(ctx context.Context, k keeper) (float64, error) {
	before, err := written()
	if err != nil {
		return 0, err
	}
	records := newGroup(1)
	for range b.slow {
		if err := errors.Join(ctx.Err(), k.keep(records), k.drop()); err != nil {
			return 0, err
		}
	}
	after, err := written()
	return float64(after-before) / float64(b.slow*recordBytes), err
}

// size measures the file of an outbox that was compacted, most of what it held having
// been delivered, against what is live in it. The outboxes of all rounds are idle at
// the same time.
func (b *outboxBench) size(ctx context.Context) (err error) {
	b.Progress.Say("filling outboxes, and waiting for them to be compacted")
	var ours, base figure.Sample
	var boxes []*outbox
	defer func() {
		for _, box := range boxes {
			err = errors.Join(err, box.close())
		}
	}()
	var folders []string
	for round := range b.rounds {
		dir, err := b.folder(fmt.Sprint("size", round))
		if err != nil {
			return err
		}
		box, err := openOutbox(dir, store.OutboxOptions{Quota: 1 << 30})
		if err != nil {
			return err
		}
		boxes, folders = append(boxes, box), append(folders, dir)
		if err := b.fill(box); err != nil {
			return err
		}
	}
	select {
	case <-time.After(b.idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	for i, box := range boxes {
		info, err := os.Stat(filepath.Join(folders[i], "outbox.db"))
		if err != nil {
			return err
		}
		records, live := box.Depth()
		ours, base = append(ours, float64(info.Size())/1e6), append(base, float64(live+frameBytes*int64(records))/1e6)
	}
	b.Progress.End()
	return b.Print(figure.New("outbox", "size", "MB", ours, base, 1.1, 1.05))
}

// frameBytes is what an outbox stores of a record beside topic and payload: its number
// twice, place in the queue, age, digest of the job, lengths, checksum.
const frameBytes = 8 + 8 + 2 + 1 + 8 + 32 + 2 + 4

// fill keeps eight times the backlog, and delivers three quarters of it.
func (b *outboxBench) fill(box *outbox) error {
	var delivered []uint64
	for n := 0; n < 8*b.backlog; n += groupOf {
		if err := box.keep(newGroup(groupOf)); err != nil {
			return err
		}
		if n%(4*groupOf) != 0 {
			delivered = append(delivered, box.last...)
		}
	}
	box.Delivered(delivered...)
	return nil
}
