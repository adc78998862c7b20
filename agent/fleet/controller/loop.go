package controller

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"syscall"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/fleet/rollout"
	"github.com/limber-edge/limber/agent/wire"
)

// gather is how long what happens is gathered before it is looked at: one commit then has
// the answers of many devices.
const gather = 50 * time.Millisecond

// picture is what the loop last knew of the devices.
type picture struct {
	seen     map[string]fleet.Device
	evidence *rollout.Evidence
	partial  bool // the registry had no room for some
	flooded  bool // nor the inbox when it was emptied last
}

// loop decides, alone. Its error is ErrTaken.
func (c *Controller) loop(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	pace := time.NewTimer(gather)
	defer pace.Stop()
	armed := true
	for {
		soon := false
		select {
		case <-ctx.Done():
			return nil
		case d := <-c.changes:
			soon = c.look(d, time.Now())
		case <-c.inbox.wake:
			soon = true
		case b := <-c.shelf.brought:
			c.brought(b)
			soon = true
		case <-pace.C:
			armed = false
			if err := c.step(ctx, time.Now()); err != nil {
				return err
			}
		case <-tick.C:
			if err := c.step(ctx, time.Now()); err != nil {
				return err
			}
		}
		if soon && !armed {
			pace.Reset(gather)
			armed = true
		}
	}
}

// look takes in a device that changed, and tells whether more did than its telemetry,
// which the next tick is soon enough for.
func (c *Controller) look(d fleet.Device, now time.Time) bool {
	was := c.picture.seen[d.Name]
	boot := ""
	if d.State != nil {
		boot = d.State.BootID
	}
	if d.Telemetry != nil && d.Telemetry != was.Telemetry {
		c.picture.evidence.Take(d.Name, boot, d.Telemetry, now)
	}
	if d.Online() && d.State != was.State {
		c.inbox.back(d.Name)
	}
	c.picture.seen[d.Name] = d
	if d.State == nil && d.Caps == nil && d.Reported == nil && d.Labels == nil {
		c.picture.evidence.Forget(d.Name)
		delete(c.picture.seen, d.Name)
	}
	return d.State != was.State || d.Caps != was.Caps || d.Reported != was.Reported ||
		!maps.Equal(d.Labels, was.Labels)
}

// step takes in what came, lets the rules decide, stores what they decided, and tells it.
// Its error is ErrTaken. Where the disk refuses it, nobody is told anything, and the next
// step tries again before anything else is decided.
func (c *Controller) step(ctx context.Context, now time.Time) error {
	p := c.inbox.take()
	if !p.ready() {
		return nil
	}
	if c.book.joined != p.seq {
		if err := c.join(ctx, p, now); err != nil {
			return err
		}
	} else if err := c.rivals(ctx, p); err != nil {
		return err
	}
	c.book.correct(p.documents, now)
	c.overrun(ctx, p.dropped)
	for device := range p.devices {
		delete(c.book.sent, device)
	}
	for of, ack := range p.acks {
		if e := c.book.of(of.id); e != nil && e.Ack(of.device, ack, now) {
			e.touch()
		}
	}
	if c.book.failing != nil && !c.save(ctx) {
		c.refuse(ctx, p.commands)
		return nil
	}
	for _, command := range p.commands {
		c.take(command, now)
	}
	for _, e := range c.book.entries {
		if !e.Final() && e.Step(now, c.view(e)) {
			e.touch()
		}
	}
	if c.save(ctx) {
		c.shelf.allow(c.book.entries)
		c.tell(ctx, now)
	}
	return nil
}

// overrun says that more was sent than there is room for: once, and of what waits for the
// loop that it is over.
func (c *Controller) overrun(ctx context.Context, dropped int) {
	if !c.picture.partial && c.client.Registry().Counts().Untracked > 0 {
		c.picture.partial = true
		c.log.Error("fleet is not seen whole", "detail", unseen())
		c.appear(ctx)
	}
	switch {
	case dropped > 0 && !c.picture.flooded:
		c.log.Warn("more is sent than can be looked at; what is dropped is to be sent again", "dropped", dropped)
	case dropped == 0 && c.picture.flooded:
		c.log.Info("all that is sent is looked at again")
	}
	c.picture.flooded = dropped > 0
}

// save stores what was decided, and tells whether it did. That it does not is said once,
// in the log and in the state, and that it does again as well.
func (c *Controller) save(ctx context.Context) bool {
	err := c.book.thin(c.shelf, len(c.ledger.open), time.Now())
	if err == nil {
		err = c.book.commit(c.ledger)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = &wire.Refusal{Reason: wire.NoSpace, Err: fmt.Errorf("%w: make room on the disk", err)}
	}
	if err != nil {
		err = fmt.Errorf("nothing is rolled out, as the state cannot be written: %w", err)
	}
	was := c.book.failing
	c.book.failing = err
	switch {
	case err != nil && was == nil:
		c.log.Error("state not written", "err", err)
		c.appear(ctx)
	case err == nil && was != nil:
		c.log.Info("state written")
		c.appear(ctx)
	}
	return err == nil
}

// refuse answers commands that nobody can obey while the disk refuses what they would
// change. Those that are known are answered once there is room.
func (c *Controller) refuse(ctx context.Context, commands []command) {
	for _, cmd := range commands {
		if _, open := c.ledger.open[cmd.id]; !open && c.ledger.find(cmd.id) == nil {
			c.client.Send(ctx, c.answerOf(c.ack(cmd, "", c.book.failing)))
		}
	}
}

// appear says that the controller is there, and what keeps it from working.
func (c *Controller) appear(ctx context.Context) {
	detail := ""
	switch {
	case c.book.failing != nil:
		detail = c.book.failing.Error()
	case c.picture.partial:
		detail = unseen()
	}
	c.client.Send(ctx, c.state(wire.Online, c.book.joined, detail))
}

// unseen is what is wrong where the registry had no room.
func unseen() string {
	return fmt.Sprintf("not all devices are seen, and rollouts do not reach the others: there are more than %d, or such "+
		"that say far too much; forget some, and restart the controller", fleet.MaxDevices)
}

// view is what a rollout sees.
func (c *Controller) view(e *entry) rollout.View {
	return rollout.View{Picture: c.client.Registry(), Where: e.where, Evidence: c.picture.evidence,
		Others: c.book.others(e)}
}

// join begins a connection: is born, unless another was since, and has everything told
// anew.
func (c *Controller) join(ctx context.Context, p post, now time.Time) error {
	b := &c.book
	first, kept := b.joined == 0, false
	if first {
		b.born = now
	}
	for _, s := range p.states {
		kept = kept || s.retained
		switch {
		case s.BootID == c.boot, s.BootID == "": // every controller has a boot
		case first && (s.retained || s.State.State != wire.Online):
			b.before[s.BootID] = true
		case first || !b.outlived(s.State):
			return fmt.Errorf("fleet %s: %w: it was started after this one", c.cfg.Fleet, ErrTaken)
		}
	}
	if !first && !kept {
		c.log.Warn("the broker has forgotten what it retained: labels of devices are lost, set them again")
	}
	b.joined = p.seq
	c.appear(ctx)
	b.forgetTold()
	strange := 0
	for topic, sum := range p.documents {
		if is, _ := wire.ParseTopic(topic); sum != sha256.Sum256(nil) && b.find(is.ID) == nil && b.find(partOf(is.ID)) == nil {
			strange++
		}
	}
	if strange > 0 {
		c.log.Warn("rollouts that the broker retained are cleared, and do not go on: the state folder does not have them; "+
			"if another has, serve from that", "documents", strange)
	}
	return nil
}

// outlived tells of another controller's state whether it is of one that was gone when
// this one was born. The broker may have that again: what it keeps on the disk is as of
// some time before it was killed.
func (b *book) outlived(s wire.State) bool { return b.before[s.BootID] && !s.TS.After(b.born) }

// rivals looks at what was said of the controller while the connection stood. A will of
// one that is gone is contradicted, and whatever else it did not say itself.
func (c *Controller) rivals(ctx context.Context, p post) error {
	for _, s := range p.states {
		switch {
		case s.BootID == c.boot:
		case s.State.State == wire.Online && s.BootID != "":
			return fmt.Errorf("fleet %s: %w: it was started after this one", c.cfg.Fleet, ErrTaken)
		default:
			c.appear(ctx)
		}
	}
	return nil
}
