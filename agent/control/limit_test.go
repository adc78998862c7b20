package control

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

func TestALimitIsABurstAndThenAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit{each: every(5), burst: 3}
		took := func(n int) time.Duration {
			began := time.Now()
			for range n {
				<-time.After(l.wait())
				l.spend()
			}
			return time.Since(began)
		}
		if got := took(3); got != 0 {
			t.Errorf("the burst took %v", got)
		}
		if got, want := took(10), 2*time.Second; got != want {
			t.Errorf("ten more took %v, want %v", got, want)
		}
		<-time.After(time.Hour)
		if got, want := took(4), 200*time.Millisecond; got != want {
			t.Errorf("after an hour a burst and one more took %v, want %v", got, want)
		}
	})
}

// ends counts how requests ended: obeyed, busy, or without a word.
func ends(all []*reply) (obeyed, busy, silent int) {
	for _, p := range all {
		switch last := p.last(); {
		case p.ended() == "dropped":
			silent++
		case last.State == wire.CommandSucceeded:
			obeyed++
		case last.State == wire.CommandRejected && last.Reason == wire.Busy:
			busy++
		}
	}
	return obeyed, busy, silent
}

func TestC8_OfAFloodABurstIsObeyedAndToldOfAndTheRestCounted(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		const flood = 10_000
		r := mustRig(t, dir)
		var all []*reply
		for i := range flood {
			all = append(all, r.send("mode", fmt.Sprint("f-", i), lowLatency))
		}
		<-time.After(time.Minute)
		obeyed, busy, silent := ends(all)
		if obeyed+busy+silent != flood || obeyed < ordersMost || busy < refusalsBurst {
			t.Errorf("of %d commands %d were obeyed, %d told that there is no room, %d neither", flood, obeyed, busy, silent)
		}
		want := Counts{Refused: uint64(busy + silent), Unanswered: uint64(silent)}
		if got := r.Counts(); got != want || len(r.events.of(wire.EventBusy)) != silent {
			t.Errorf("counted %+v and told of %d, want %+v and all", got, len(r.events.of(wire.EventBusy)), want)
		}
		r.command("mode", lowLatency).succeeds(t)
	})
}

func TestC8_OfALastingFloodSoManyASecondAreObeyedAndToldOf(t *testing.T) {
	for _, tt := range []struct {
		class       Class
		most        int
		obeyedASlot int // of two seconds
	}{
		{Instant, 256, 100},
		{Serial, 8, 10},
		{Exclusive, 8, 2},
	} {
		bubble(t, func(t *testing.T, dir string) {
			verb, goOn := fake("verb", tt.class, tt.most)
			close(goOn)
			verbs, payload := withVerbs(verb), `{"ttl_ms":60000}`
			if tt.class == Instant {
				verbs, verb.Name, payload = withVerbs(), wire.VerbMode, lowLatency
			}
			r := mustRig(t, dir, verbs)
			var all []*reply
			slot := func() (obeyed, busy int) {
				for range 2000 {
					all = append(all, r.send(verb.Name, fmt.Sprint("f-", len(all)), payload))
					<-time.After(time.Millisecond)
				}
				synctest.Wait()
				obeyed, busy, _ = ends(all)
				return obeyed, busy
			}
			o1, b1 := slot() // the burst is over
			o2, b2 := slot()
			if got := o2 - o1; got < tt.obeyedASlot-1 || got > tt.obeyedASlot+1 {
				t.Errorf("class %d: obeyed %d in two seconds, want %d", tt.class, got, tt.obeyedASlot)
			}
			if got := b2 - b1; got < 2*refusalsPace-1 || got > 2*refusalsPace+1 {
				t.Errorf("class %d: told %d that there is no room in two seconds, want %d", tt.class, got, 2*refusalsPace)
			}
		})
	}
}

func TestC8_AFloodOfOneIdWithOtherBytesIsAnsweredWithinTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		r := mustRig(t, dir)
		told := 0
		for i := range 2 * refusalsBurst {
			q, p := ofCommand("mode", "same", strings.Repeat(" ", i)+lowLatency)
			q.Conflict = true // says the link
			if r.take(q); p.ended() == "answered" {
				told++
			}
		}
		if n := r.Counts().Unanswered; told != refusalsBurst || n != refusalsBurst {
			t.Errorf("%d were answered and %d not, want %d of each", told, n, refusalsBurst)
		}
	})
}

// What an operator orders during a flood of another class has its turn at once.
func TestC8_AFloodOfOneClassHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		other, goOn := fake("other", Serial, 8)
		close(goOn)
		r := mustRig(t, dir, withVerbs(other))
		for i := range 10_000 {
			r.send("mode", fmt.Sprint("f-", i), lowLatency)
		}
		r.command("other", `{"ttl_ms":1000}`).succeeds(t)
	})
}
