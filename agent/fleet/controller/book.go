package controller

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/store"
)

// The keys of what is stored, each with an id behind it.
const (
	keyRollout = "rollout/" // a rollout.Record
	keyCommand = "command/" // a remembered
	keyBlob    = "blob/"    // by 64 hexadecimal digits
	keyUsed    = "used/"    // until when devices may know commands of a rollout that is gone, RFC 3339
)

// keyFleet is that of the fleet's name.
const keyFleet = "fleet"

// entry is a rollout, with what was made of its expression.
type entry struct {
	*rollout.Record
	where fleet.Where
	dirty bool // it is not stored as it is
	news  bool // it is not told as it is

	logged wire.RolloutState
}

// touch notes that the rollout changed.
func (e *entry) touch() { e.dirty, e.news = true, true }

// book is what is decided, what of it is to be stored, and what was told on this
// connection. It is the loop's.
type book struct {
	store   Store
	entries []*entry // the oldest first
	changes map[string][]byte
	answers []mqtt.Message
	failing error                // why it is not stored; nil: it is
	used    map[string]time.Time // ids of rollouts that are gone, as keyUsed has them
	tidy    bool                 // a rollout began: blobs may be there that none needs
	fleet   string               // its name, to be stored with what is stored first; "" if it is

	born   time.Time                     // when the first connection was joined
	before map[string]bool               // boots of controllers whose state was there then
	joined uint64                        // the connection that follows tell of
	told   map[string]telling            // what is retained, by topic
	heard  map[string][sha256.Size]byte  // what the broker retains, as it came last, by topic
	clear  map[string]bool               // topics that have to be cleared
	sent   map[string]map[string]sending // by device, and verb/id: its commands that are not answered
}

// telling is what was told on a topic, and when.
type telling struct {
	sum [sha256.Size]byte
	at  time.Time
}

// sending is how often a command was sent since the device was there last, and when lastly.
type sending struct {
	at    time.Time
	times int
}

// The times after which a command that is not answered is sent again: a broker with much
// to hand on drops what is too much, also of QoS 1, and so an answer is lost. Each is twice
// the one before.
const (
	againFirst = time.Minute
	againMost  = 32 * time.Minute
)

// due tells whether a command that was sent so is to be sent now.
func (s sending) due(now time.Time) bool {
	return s.times == 0 || now.Sub(s.at) >= min(againFirst<<min(s.times-1, 8), againMost)
}

// belong has the fleet's name stored, in time, or tells that what is stored is another's: its
// rollouts would be carried out on devices that have the same names.
func (b *book) belong(fleet string) error {
	switch name, err := b.store.Document(keyFleet); {
	case errors.Is(err, store.ErrNotFound):
		b.fleet = fleet
	case err != nil:
		return err
	case string(name) != fleet:
		return fmt.Errorf("the state is of fleet %s: give fleet %s a folder of its own", name, fleet)
	}
	return nil
}

// loadEntries reads the rollouts that were stored. One that makes no sense is left where
// it is, and told of.
func loadEntries(s Store, log *slog.Logger) (entries []*entry, err error) {
	err = s.Each(keyRollout, func(key string, value []byte) {
		e := &entry{Record: &rollout.Record{}}
		err := json.Unmarshal(value, e.Record)
		if err == nil {
			e.where, err = fleet.ParseWhere(e.Spec.Where)
		}
		if e.Final() {
			e.logged = e.State
		}
		if err != nil {
			log.Error("rollout is damaged, and does not go on", "rollout", strings.TrimPrefix(key, keyRollout), "err", err)
			return
		}
		entries = append(entries, e)
	})
	slices.SortStableFunc(entries, func(a, b *entry) int { return a.Start.Compare(b.Start.Time) })
	return entries, err
}

// of is the rollout that a command's id is one of; nil if there is none.
func (b *book) of(command string) *entry {
	if i := strings.LastIndexByte(command, '.'); i > 0 {
		return b.find(command[:i])
	}
	return nil
}

func (b *book) find(id string) *entry {
	if i := slices.IndexFunc(b.entries, func(e *entry) bool { return e.ID == id }); i >= 0 {
		return b.entries[i]
	}
	return nil
}

// others are all rollouts but one.
func (b *book) others(but *entry) (others []*rollout.Record) {
	for _, e := range b.entries {
		if e != but {
			others = append(others, e.Record)
		}
	}
	return others
}

// change has a value stored by the next commit; nil removes it.
func (b *book) change(key string, value []byte) {
	if b.changes == nil {
		b.changes = map[string][]byte{}
	}
	b.changes[key] = value
}

// thin gives up the oldest rollouts that have ended, beyond Kept, and the blobs that no
// other needs. Those of a family whose rollout was refused, or which came in part, stay
// until another rollout begins.
func (b *book) thin(s *shelf, open int, now time.Time) error {
	for i := 0; len(b.entries) > Kept && i < len(b.entries); {
		e := b.entries[i]
		if !e.Final() {
			i++
			continue
		}
		b.entries = slices.Delete(b.entries, i, i+1)
		b.change(keyRollout+e.ID, nil)
		b.retire(e, now)
		for topic := range b.told {
			if is, _ := wire.ParseTopic(topic); is.ID == e.ID || partOf(is.ID) == e.ID {
				b.clear[topic] = true
			}
		}
		b.tidy = true
	}
	if !b.tidy || open > 0 {
		return nil // nobody knows what a family on its way needs
	}
	b.tidy = false
	return s.thin(b)
}

// usedMost is how many ids of rollouts that are gone are remembered: of those that devices
// forget last.
const usedMost = 4096

// loadUsed reads the ids of rollouts that are gone.
func loadUsed(s Store) (map[string]time.Time, error) {
	used := map[string]time.Time{}
	err := s.Each(keyUsed, func(key string, value []byte) {
		until, err := time.Parse(time.RFC3339, string(value))
		if err == nil { // one that is damaged is not remembered
			used[strings.TrimPrefix(key, keyUsed)] = until
		}
	})
	return used, err
}

// retire remembers the id of a rollout that is given up for as long as devices may know its
// commands, and forgets those whose time is over.
func (b *book) retire(e *entry, now time.Time) {
	b.used[e.ID] = e.Known(now)
	b.change(keyUsed+e.ID, []byte(b.used[e.ID].UTC().Format(time.RFC3339)))
	ids := slices.SortedFunc(maps.Keys(b.used), func(a, o string) int { return b.used[a].Compare(b.used[o]) })
	for i, id := range ids {
		if now.After(b.used[id]) || i < len(ids)-usedMost {
			delete(b.used, id)
			b.change(keyUsed+id, nil)
		}
	}
}

// unused refuses an id under which devices may know other commands.
func (b *book) unused(id string, now time.Time) error {
	if until := b.used[id]; now.Before(until) {
		return wire.Refuse(wire.Conflict, "rollout: there was one of the id %s, and devices may know its commands until %s: "+
			"choose another", id, until.UTC().Format(time.RFC3339))
	}
	return nil
}

// partOf is the rollout that an id is a part's of; "" for another.
func partOf(id string) string {
	i := strings.LastIndexByte(id, '.')
	if i < 0 || strings.Trim(id[i:], ".0123456789") != "" {
		return ""
	}
	return id[:i]
}

// commit stores all that changed.
func (b *book) commit(l *ledger) error {
	for _, e := range b.entries {
		if !e.dirty {
			continue
		}
		value, err := json.Marshal(e.Record)
		if err != nil {
			return fmt.Errorf("rollout %s: %w", e.ID, err)
		}
		b.change(keyRollout+e.ID, value)
	}
	for _, id := range l.thin() {
		b.change(keyCommand+id, nil)
	}
	if len(b.changes) == 0 {
		return nil
	}
	if b.fleet != "" {
		b.change(keyFleet, []byte(b.fleet))
	}
	if err := b.store.Commit(b.changes); err != nil {
		return err
	}
	b.changes, b.fleet = nil, ""
	for _, e := range b.entries {
		e.dirty = false
	}
	return nil
}

// forgetTold has all be told again: the connection is new, and the broker may be.
func (b *book) forgetTold() {
	b.told, b.heard = map[string]telling{}, map[string][sha256.Size]byte{}
	b.clear, b.sent = map[string]bool{}, map[string]map[string]sending{}
	for _, e := range b.entries {
		e.news = true
	}
}

// disputed is how long what the broker retains may differ from what was told: that is on
// its way.
const disputed = 3 * time.Second

// correct has a rollout told anew where the broker retains something else in its place, and
// cleared what is of none.
func (b *book) correct(retained map[string][sha256.Size]byte, now time.Time) {
	for topic, sum := range retained {
		if _, known := b.heard[topic]; known || len(b.heard) < foundMost {
			b.heard[topic] = sum
		}
	}
	for topic, sum := range b.heard {
		is, _ := wire.ParseTopic(topic)
		e := cmp.Or(b.find(is.ID), b.find(partOf(is.ID)))
		told, known := b.told[topic]
		switch {
		case known && (told.sum == sum || now.Sub(told.at) < disputed):
			continue
		case !known && sum == sha256.Sum256(nil):
			delete(b.heard, topic)
			continue
		case e != nil:
			e.news = true
		}
		delete(b.told, topic)
		delete(b.heard, topic)
		b.clear[topic] = true // unless it is told of
	}
}

// tell tells what is stored: answers, rollouts and commands of devices.
func (c *Controller) tell(ctx context.Context, now time.Time) {
	b := &c.book
	for _, m := range b.answers {
		c.client.Send(ctx, m)
	}
	b.answers = nil
	for _, e := range b.entries {
		if e.news {
			c.tellRollout(ctx, e, now)
		}
	}
	for topic := range b.clear {
		c.client.Send(ctx, mqtt.Message{Topic: topic, QoS: 1, Retained: true})
		delete(b.told, topic)
		delete(b.heard, topic)
	}
	clear(b.clear)
	for _, cmd := range b.unsent(c.client.Registry(), now) {
		to := wire.Address{Fleet: c.cfg.Fleet, Device: cmd.Device}
		c.client.Send(ctx, mqtt.Message{Topic: to.Cmd(cmd.Verb, cmd.ID), Payload: cmd.Payload, QoS: 1})
	}
}

// tellRollout has the broker retain a rollout, as far as it is new: its devices first, so
// that who sees how it ended has seen how they did.
func (c *Controller) tellRollout(ctx context.Context, e *entry, now time.Time) {
	if e.State != e.logged {
		e.logged = e.State
		c.log.Info("rollout changed", "rollout", e.ID, "state", e.State, "why", e.Why)
	}
	documents := e.Document()
	for n, doc := range slices.Backward(documents) {
		topic := c.at.Rollout(doc.ID)
		if n > 0 {
			topic = c.at.Rollout(fmt.Sprintf("%s.%d", doc.ID, n))
		}
		delete(c.book.clear, topic)
		payload, err := json.Marshal(doc)
		if err != nil {
			c.log.Error("rollout not told", "rollout", e.ID, "err", err)
			continue
		}
		if sum := sha256.Sum256(payload); c.book.told[topic].sum != sum {
			c.book.told[topic] = telling{sum, now}
			c.client.Send(ctx, mqtt.Message{Topic: topic, Payload: payload, QoS: 1, Retained: true})
		}
	}
	for topic := range c.book.told { // parts that there are no more
		is, _ := wire.ParseTopic(topic)
		if partOf(is.ID) == e.ID && partNumber(is.ID) >= len(documents) {
			c.book.clear[topic] = true
		}
	}
	e.news = false
}

// partNumber is which part of a rollout an id is of.
func partNumber(id string) (n int) {
	fmt.Sscanf(id[strings.LastIndexByte(id, '.')+1:], "%d", &n)
	return n
}

// unsent are the commands to be sent now, of those that are not answered: once when the
// device is there, and again while it owes the answer. To those that are not there the
// broker would hand on each.
func (b *book) unsent(picture rollout.Picture, now time.Time) (due []rollout.Command) {
	sent := map[string]map[string]sending{}
	for _, e := range b.entries {
		if e.Final() {
			continue
		}
		for _, cmd := range e.Commands() {
			if !picture.Device(cmd.Device).Online() {
				continue
			}
			name := cmd.Verb + "/" + cmd.ID
			is := b.sent[cmd.Device][name]
			if is.due(now) {
				is = sending{now, is.times + 1}
				due = append(due, cmd)
			}
			if sent[cmd.Device] == nil {
				sent[cmd.Device] = map[string]sending{}
			}
			sent[cmd.Device][name] = is
		}
	}
	b.sent = sent
	return due
}
