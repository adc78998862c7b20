package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/broker-config/brokertest"
)

// What a storm is made of can be set from outside: a failure names the seed. The same
// seed is the same plan, though not the same run.
const (
	envKills = "LIMBER_KILLS" // how often each device is killed; 15
	envSeed  = "LIMBER_SEED"
)

// window is how long before a kill an answer may have been made that is not on the disk:
// the commit starts within 50 ms, on a busy machine some time later.
const window = 500 * time.Millisecond

// storm ends a device again and again while jobs and commands come, over a network
// that fails in its own ways.
type storm struct {
	tb      testing.TB
	seed    uint64
	kills   int
	path    string // of the configuration
	each    string // what members take
	network network
	site
	client *client
	ends   []time.Time // when the device was killed
	told   int         // of them, to who watches
}

// outages are of a broker that keeps what it has. Their methods are for the test's
// goroutine.
type outages interface {
	// turn ends the broker or one of its nodes, or starts what it ended.
	turn(r *rand.Rand)
	// heal returns when all of it runs.
	heal()
}

// site is where a storm takes place: what has the device's configuration, the client's
// connection, and the addresses that cables lead to.
type site struct {
	cfg    config.Config
	scheme string // before the near end of a cable, in the device's configuration
	addrs  []string
	ledger mqtt.Config
	broker outages // nil: the broker stays
	// what it delivers again comes behind what was sent later
	unordered bool
	// lost tells whether the broker lost a message to the device that it had taken, and says
	// what is known of it; nil: it loses none
	lost func(topic string) (lost bool, how string)
}

func fromEnv(tb testing.TB, name string, otherwise uint64) uint64 {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return n
}

// steady is a broker that stays, and keeps all it has for a device that is away.
func steady(tb testing.TB) site {
	tb.Helper()
	m := brokertest.StartMosquitto(tb, "allow_anonymous true", "max_inflight_messages 100", "max_queued_messages 0")
	return site{cfg: newConfig(tb, m.Addr), addrs: []string{m.Addr}, ledger: passing(m.Addr)}
}

func newStorm(tb testing.TB, alter func(*config.Config)) *storm {
	tb.Helper()
	return newStormAt(tb, steady(tb), alter)
}

func newStormAt(tb testing.TB, at site, alter func(*config.Config)) *storm {
	tb.Helper()
	s := &storm{tb: tb, seed: fromEnv(tb, envSeed, rand.Uint64()>>1), kills: int(fromEnv(tb, envKills, 15)),
		each: "1ms", site: at}
	s.cfg.Broker.URL = nil
	for _, addr := range at.addrs {
		cable, through := lay(tb, addr)
		s.network, s.cfg.Broker.URL = append(s.network, cable), append(s.cfg.Broker.URL, at.scheme+through)
	}
	s.cfg.Broker.KeepAlive.Duration = time.Second
	alter(&s.cfg)
	s.path = writeConfig(tb, s.cfg)
	s.client = openLedgerAs(tb, at.ledger, self(s.cfg))
	return s
}

// source is one of the plan's; each goroutine has its own.
func (s *storm) source(n uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, n)) }

func (s *storm) spawn() *process { return spawn(s.tb, s.path, envSimulated+"="+s.each) }

// first starts the device and returns when it serves: what is published before its
// first subscription is nobody's.
func (s *storm) first() *process {
	s.tb.Helper()
	p := s.spawn()
	if !s.client.until(patience, func() bool { return s.client.last.Member != "" }) {
		p.kill()
		s.tb.Fatalf("the device is not there:\n%s", p.log)
	}
	return p
}

// rage kills and stops the device, and lets it rest in the end until all is answered.
func (s *storm) rage(rate int) {
	s.tb.Helper()
	p := s.first()
	ctx, stop := context.WithCancel(s.tb.Context())
	defer stop()
	var busy sync.WaitGroup
	busy.Go(func() { s.client.traffic(ctx, s.source(1), rate) })
	busy.Go(func() { s.weather(ctx, s.source(2)) })
	r, outage := s.source(3), s.source(6)
	for len(s.ends) < s.kills && !s.tb.Failed() {
		idle(ctx, lifetime(r))
		s.end(p, r.IntN(15) > 0)
		p = s.spawn()
		if s.broker != nil && outage.IntN(5) == 0 {
			s.broker.turn(outage)
		}
		s.tell()
	}
	stop()
	busy.Wait()
	if s.broker != nil {
		s.broker.heal()
	}
	s.network.behave(manner{}, manner{})
	s.network.cut()
	s.network.mend()
	s.rest(p)
}

// tell says from time to time how far the storm is, to who watches.
func (s *storm) tell() {
	step := max(1, s.kills/20)
	if len(s.ends) < s.told+step {
		return
	}
	s.told = len(s.ends)
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.tb.Logf("%d of %d kills, %d jobs and commands, %d have no answer yet", len(s.ends), s.kills,
		len(s.client.entries), s.client.open)
}

// lifetime is how long the device lives: it may be killed while it starts.
func lifetime(r *rand.Rand) time.Duration {
	most := time.Second
	switch dice := r.IntN(10); {
	case dice < 3:
		most = 120 * time.Millisecond
	case dice == 9:
		most = 4 * time.Second
	}
	return time.Duration(r.Int64N(int64(most)))
}

// end kills the device, or asks it to stop: one that starts may not hear that, and
// ends all the same.
func (s *storm) end(p *process, kill bool) {
	s.tb.Helper()
	at, signal := time.Now(), syscall.SIGTERM
	if kill {
		signal = syscall.SIGKILL
	}
	p.cmd.Process.Signal(signal) // it may have ended: wait says how
	p.wait()
	if by := p.cmd.ProcessState.Sys().(syscall.WaitStatus); by.Signaled() {
		s.ends = append(s.ends, at)
	} else if by.ExitStatus() != 0 {
		s.tb.Errorf("seed %d: the device exited with %d:\n%s", s.seed, by.ExitStatus(), tail(p.log.String()))
	}
	s.judge(p)
}

// judge reads what the device said of itself.
func (s *storm) judge(p *process) {
	s.tb.Helper()
	log := p.log.String()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", "set aside"} {
		if strings.Contains(log, bad) {
			s.tb.Errorf("seed %d: %s in the log of the device:\n%s", s.seed, bad, log)
			return
		}
	}
}

// rest waits until the device has answered what was accepted, and has nothing to do.
func (s *storm) rest(p *process) {
	s.tb.Helper()
	p.log.await(s.tb, "broker connected", 1) // one that starts does not hear that it is to stop
	c := s.client
	calm := false
	for open := math.MaxInt; !calm && c.unanswered() < open; { // each is served alone if many were cut off
		open = c.unanswered()
		calm = c.until(2*patience, func() bool {
			return c.open <= int(c.lost()) && c.last.Outbox == 0 && c.last.Queue == 0
		})
	}
	if !calm {
		s.complain(p)
	}
	p.stop()
	s.judge(p)
}

// complain names what has no answer, and fails if the device is to answer for it.
func (s *storm) complain(p *process) {
	s.tb.Helper()
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	owed := 0
	for _, e := range c.entries {
		if !e.accepted || len(e.answers) > 0 {
			continue
		}
		if s.owes(e) {
			owed++
		}
		how := ""
		if s.lost != nil {
			_, how = s.lost(e.topic)
		}
		s.tb.Logf("%s has no answer; the broker took it at %v, and passed it on to another: %v; %s", e.topic,
			e.at.UTC().Format(time.StampMilli), c.reached(e), how)
	}
	if owed > int(c.lost()) || c.last.Outbox > 0 {
		s.tb.Errorf("seed %d: %d of %d ids have no answer, %d records were lost, %d wait; the device's log:\n%s", s.seed,
			owed, len(c.entries), c.lost(), c.last.Outbox, tail(p.log.String()))
	}
}

// owes tells whether the device is to answer for what has no answer: the broker passed on
// what it took, and did not lose what it has for the device. The client's lock is held.
func (s *storm) owes(e *entry) bool {
	if !s.client.reached(e) {
		return false
	}
	if s.lost == nil {
		return true
	}
	lost, _ := s.lost(e.topic)
	return !lost
}

// tail is the end of a log.
func tail(log string) string { return log[max(0, len(log)-5000):] }

// weather changes how the network fails, until ctx ends.
func (s *storm) weather(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		idle(ctx, between(r, 100*time.Millisecond, 2*time.Second))
		switch r.IntN(7) {
		case 0:
			s.network.cut()
		case 1:
			s.network.reset()
		default:
			s.network.behave(badly(r))
		}
		idle(ctx, between(r, 100*time.Millisecond, 3*time.Second))
		s.network.behave(manner{}, manner{})
		s.network.mend()
	}
}

func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// badly is a way for what the device says, and for what the broker does.
func badly(r *rand.Rand) (up, down manner) {
	switch r.IntN(5) {
	case 0: // half open: nobody is told
		return manner{Lose: r.IntN(3) > 0}, manner{Lose: r.IntN(3) > 0}
	case 1: // sliced
		slices := func() manner {
			return manner{Piece: 1 + r.IntN(20), Pause: between(r, 10*time.Microsecond, time.Millisecond)}
		}
		return slices(), slices()
	case 2: // 20 to 200 kB/s
		slow := manner{Piece: 1000, Pause: between(r, 5*time.Millisecond, 50*time.Millisecond)}
		return slow, slow
	case 3: // far away
		far := manner{Pause: between(r, time.Millisecond, 100*time.Millisecond)}
		return far, far
	default: // what the device says is held up
		return manner{Pause: between(r, 50*time.Millisecond, 500*time.Millisecond)}, manner{}
	}
}

// toll is what a storm did, as it is printed.
type toll struct {
	Kills    int    `json:"kills"`
	Accepted int    `json:"accepted"`
	Answered int    `json:"answered"`
	Phantom  int    `json:"phantom"`
	Twice    int    `json:"twice"`
	Gaps     uint64 `json:"gaps"`

	dropped int // without an answer, and the broker lost them, which had taken them
}

func (t toll) String() string {
	line, _ := json.Marshal(t) // cannot fail: numbers
	return string(line)
}

// count makes up the bill, and explains the ids that have several answers: all but the
// last were made shortly before a kill.
func (s *storm) count() toll {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	var windows []time.Duration
	t := toll{Kills: len(s.ends), Phantom: len(c.phantom), Gaps: c.lost()}
	for _, e := range c.entries {
		if !e.accepted {
			continue
		}
		t.Accepted++
		if len(e.answers) > 0 {
			t.Answered++
		} else if !s.owes(e) {
			t.dropped++
		}
		if len(e.answers) > 1 {
			t.Twice++
			windows = append(windows, s.explain(e)...)
		}
	}
	s.tb.Logf("%v seed %d, %d copies, %d out of order, %d lost by the broker, refused %v, twice: made %v before a kill",
		t, s.seed, c.copies, len(c.behind), t.dropped, c.refused, spread(windows))
	for _, what := range c.phantom {
		s.tb.Errorf("seed %d: phantom: %s", s.seed, what)
	}
	if !s.unordered && len(c.behind) > 0 {
		s.tb.Errorf("seed %d: out of order: %s", s.seed, strings.Join(c.behind, "\n"))
	}
	return t
}

// explain returns how long before the next kill each answer of an id was made, but the
// last: they may have come in another order.
func (s *storm) explain(e *entry) (windows []time.Duration) {
	s.tb.Helper()
	slices.SortStableFunc(e.answers, func(a, b given) int { return a.made().Compare(b.made()) })
	for _, g := range e.answers[:len(e.answers)-1] {
		w := s.before(g)
		if windows = append(windows, w); w > window {
			s.tb.Errorf("seed %d: %v before a kill %s was answered\n%s", s.seed, w, e.topic, e.history())
		}
	}
	return windows
}

// spread is the least, the middle and the longest of some times.
func spread(all []time.Duration) []time.Duration {
	if len(all) < 3 {
		return all
	}
	slices.Sort(all)
	return []time.Duration{all[0], all[len(all)/2], all[len(all)-1]}
}

// history is the answers of an id, with the times at which they came.
func (e *entry) history() (text string) {
	for _, g := range e.answers {
		text += g.at.UTC().Format(time.StampMilli) + " " + g.payload + "\n"
	}
	return text
}

// made is when an answer was; one without a time was made long ago.
func (g given) made() time.Time {
	var answer struct{ TS wire.Time }
	json.Unmarshal([]byte(g.payload), &answer) // it was read before
	return answer.TS.Time
}

// before is how long before the next kill an answer was made; an hour if none followed.
func (s *storm) before(g given) time.Duration {
	made := g.made()
	for _, end := range s.ends {
		if d := end.Sub(made); d >= 0 {
			return d.Round(time.Millisecond)
		}
	}
	return time.Hour
}

// The last that `make torture` prints are the tolls of these storms.
func TestN2_KillsUnderTrafficLoseNothing(t *testing.T) {
	tolls := make(chan string, 2*len(sites()))
	t.Run("storm", func(t *testing.T) {
		for name, open := range sites() {
			for _, durable := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, durable first %v", name, durable), func(t *testing.T) {
					t.Parallel()
					got := killsLoseNothing(t, open(t), durable)
					tolls <- fmt.Sprintf("%v %s, durable first %v, %d lost by the broker", got, name, durable, got.dropped)
				})
			}
		}
	})
	close(tolls)
	for line := range tolls {
		fmt.Println(line)
	}
}

func killsLoseNothing(t *testing.T, at site, durable bool) toll {
	t.Helper()
	s := newStormAt(t, at, func(cfg *config.Config) { cfg.Outbox.DurableFirst = durable })
	s.rage(80)
	got := s.count()
	if got.Answered != got.Accepted-int(got.Gaps)-got.dropped {
		t.Errorf("seed %d: got %+v, want all answered", s.seed, got)
	}
	if durable && got.Twice > 0 {
		t.Errorf("seed %d: got %+v, want one answer for each", s.seed, got)
	}
	return got
}
