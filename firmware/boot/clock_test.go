package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/firmware/slot"
)

// A fake is a program that does as its script says: it is a function in a goroutine.
type fake struct {
	slot   slot.Name
	beats  chan bool
	asked  chan os.Signal
	killed chan struct{}
	ended  chan ending
	dying  time.Duration // that it takes to be gone once it was killed
}

func (f *fake) Signal(s os.Signal)   { f.asked <- s }
func (f *fake) Ended() <-chan ending { return f.ended }

func (f *fake) Beats() bool {
	select {
	case <-f.beats:
		return true
	default:
		return false
	}
}

func (f *fake) Kill() {
	close(f.killed)
	go func() {
		<-time.After(f.dying)
		f.ended <- ending{code: 137, how: "killed", tail: "last words"}
	}()
}

// beat beats until the program is to end, or for so many times.
func (f *fake) beat(times int) {
	for i := 0; i != times; i++ {
		select {
		case f.beats <- true:
		case <-f.killed:
			return
		case s := <-f.asked:
			f.ended <- ending{how: s.String()}
			return
		}
	}
}

func (f *fake) live()  { f.beat(-1) }
func (f *fake) crash() { f.ended <- ending{code: 1, how: "exit code 1", tail: "boom"} }

// A rig is a launcher in a bubble of time, whose programs are fakes.
type rig struct {
	*testing.T
	launcher
	stop    chan os.Signal
	scripts map[slot.Name]func(*fake)
	began   time.Time
	starts  []time.Duration // since the launcher began
	slots   []slot.Name     // of them
	said    bytes.Buffer
	dying   time.Duration // of each program
}

// inTime runs a test in a bubble, with a device on which the package can run.
func inTime(t *testing.T, test func(*rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, stop: make(chan os.Signal), began: time.Now(), scripts: map[slot.Name]func(*fake){}}
		r.launcher = launcher{cfg: Config{State: t.TempDir(), Argv: []string{"/bin/sh"}, Timing: DefaultTiming()},
			signals: r.stop, stderr: &r.said, start: r.startFake}
		r.launcher.slots = slot.Open(r.cfg.State).Launcher()
		test(r)
	})
}

func (r *rig) startFake(c choice) (process, error) {
	r.starts, r.slots = append(r.starts, time.Since(r.began)), append(r.slots, c.slot)
	f := &fake{c.slot, make(chan bool), make(chan os.Signal, 9), make(chan struct{}), make(chan ending, 1), r.dying}
	go r.scripts[c.slot](f)
	return f, nil
}

// runs runs the launcher for so long.
func (r *rig) runs(d time.Duration) (code int) {
	r.Helper()
	done := make(chan int)
	go func() { done <- r.run() }()
	<-time.After(d)
	select {
	case r.stop <- syscall.SIGTERM:
	case code := <-done:
		return code
	}
	return <-done
}

// staged stages a release that does as it likes, and returns the agent that did.
func (r *rig) staged(version string, running slot.Name) *slot.Agent {
	r.Helper()
	a := slot.Open(r.cfg.State).Agent(running)
	digest := "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of nothing
	release := slot.Release{Version: version, Digest: digest,
		Files: []slot.File{{Path: slot.Program, Digest: digest, Mode: 0o755}}}
	err := errors.Join(a.Fetch(version, digest, nil), a.Stage(context.Background(), release,
		func(slot.File) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }))
	if err != nil {
		r.Fatal(err)
	}
	return a
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// wants checks when programs were started, in seconds, and the phase.
func (r *rig) wants(phase string, n slot.Name, seconds ...float64) {
	r.Helper()
	var got []float64
	for _, d := range r.starts {
		got = append(got, d.Seconds())
	}
	if !slices.Equal(got, seconds) {
		r.Errorf("started after %v s, want %v; %s", got, seconds, &r.said)
	}
	if p, err := r.launcher.slots.Phase(); err != nil || p.Phase != phase || p.Slot != n {
		r.Errorf("got %s in slot %s, %v; want %s in %s", p.Phase, p.Slot, err, phase, n)
	}
}

func TestT5_AProgramThatKeepsFailingIsStartedForEverAfterPausesUpToAMinute(t *testing.T) {
	for _, n := range []slot.Name{slot.Package, slot.A} {
		inTime(t, func(r *rig) {
			r.scripts[n] = (*fake).crash
			if n == slot.A {
				r.confirmed()
			}
			r.runs(24 * time.Hour)
			if len(r.starts) < 24*60 || len(r.starts) > 24*60+10 {
				r.Errorf("%d starts in a day", len(r.starts))
			}
			r.starts = r.starts[:10]
			phase := slot.Idle
			if n == slot.A {
				phase = slot.Confirmed
			}
			r.wants(phase, n, 0, 1, 3, 7, 15, 31, 63, 123, 183, 243)
		})
	}
}

// confirmed has a release confirmed in slot a.
func (r *rig) confirmed() {
	r.Helper()
	r.must(r.staged("2", slot.Package).Switch(time.Minute))
	r.must(slot.Open(r.cfg.State).Agent(slot.A).Confirm())
}

func TestT5_AReleaseIsWaitedForWhileNothingCanBeStarted(t *testing.T) {
	inTime(t, func(r *rig) {
		a := r.staged("2", slot.Package)
		r.must(a.Switch(time.Minute))
		r.must(slot.Open(r.cfg.State).Agent(slot.A).Confirm())
		r.scripts[slot.A] = (*fake).live
		can := r.launcher.start
		r.launcher.start = func(c choice) (process, error) {
			if time.Since(r.began) < 2*time.Second {
				return nil, fmt.Errorf("start %s: %w", c.path, syscall.EAGAIN)
			}
			return can(c)
		}
		r.runs(time.Minute)
		r.wants(slot.Confirmed, slot.A, 3)
	})
}

func TestT5_AMinuteOfRunningEndsTheGrowthOfPauses(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.Package] = func(f *fake) {
			if len(r.starts) == 4 {
				<-time.After(time.Minute)
			}
			f.crash()
		}
		r.runs(75 * time.Second)
		r.wants(slot.Idle, slot.Package, 0, 1, 3, 7, 68, 70, 74)
	})
}

func TestThreeFailedStartsGoBack(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.A], r.scripts[slot.Package] = (*fake).crash, (*fake).live
		a := r.staged("2", slot.Package)
		r.must(a.Switch(time.Minute))
		r.runs(time.Minute)
		r.wants(slot.RolledBack, slot.Package, 0, 1, 3, 3)
		if last, _, ok := a.Untold(); !ok || last.Reason != slot.Crash || last.Tail != "boom" || last.Version != "2" {
			t.Errorf("got %+v", last)
		}
	})
}

// A folder in the place of the file that is renamed: nothing can be recorded.
func TestAStartThatCannotBeCountedIsNotMade(t *testing.T) {
	inTime(t, func(r *rig) {
		r.must(r.staged("2", slot.Package).Switch(time.Minute))
		r.must(os.Mkdir(filepath.Join(r.cfg.State, "slots/phase.json.new"), 0o700))
		r.scripts[slot.Package] = (*fake).crash
		r.runs(10 * time.Second)
		r.wants(slot.Trial, slot.A, 0, 1, 3, 7) // and the one before is not started without a pause
		if slices.Contains(r.slots, slot.A) {
			t.Errorf("got %v", r.slots)
		}
	})
	inTime(t, func(r *rig) { // nor does a way back that cannot be recorded keep it from running
		a := r.staged("2", slot.Package)
		r.must(a.Switch(time.Minute))
		for range 3 {
			r.must(r.launcher.slots.Count(""))
		}
		r.must(os.Mkdir(filepath.Join(r.cfg.State, "slots/phase.json.new"), 0o700))
		r.scripts[slot.Package] = (*fake).live
		r.runs(10 * time.Second)
		r.wants(slot.Trial, slot.A, 0)
		r.must(os.Remove(filepath.Join(r.cfg.State, "slots/phase.json.new")))
		r.runs(10 * time.Second)
		r.wants(slot.RolledBack, slot.Package, 0, 10)
	})
}

func TestAStopAfterTheVerdictIsNotSpokenOf(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.A] = func(f *fake) {
			r.must(slot.Open(r.cfg.State).Agent(slot.A).Confirm())
			f.live()
		}
		r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
		r.runs(10 * time.Second)
		r.wants(slot.Confirmed, slot.A, 0)
		if r.said.Len() > 0 {
			t.Errorf("it says %s", &r.said)
		}
	})
}

func TestAHangGoesBackAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		beats int
		after float64 // s, until another runs
	}{"without a heartbeat": {0, 30}, "later": {4, 35}} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(r *rig) {
				r.scripts[slot.A], r.scripts[slot.Package] = func(f *fake) { f.beat(tt.beats) }, (*fake).live
				r.must(r.staged("2", slot.Package).Switch(time.Minute))
				r.runs(time.Minute)
				r.wants(slot.RolledBack, slot.Package, 0, tt.after)
				if p, _ := r.launcher.slots.Phase(); p.Last.Reason != slot.Hang || p.Last.Tail != "last words" {
					t.Errorf("got %+v", p.Last)
				}
			})
		})
	}
}

func TestAConfirmedReleaseThatHangsIsStartedAgain(t *testing.T) {
	inTime(t, func(r *rig) {
		r.confirmed()
		r.scripts[slot.A] = func(f *fake) { f.beat(2) }
		r.runs(time.Minute)
		r.wants(slot.Confirmed, slot.A, 0, 26, 53) // 10 s of heartbeats, 15 s without, 1 s and 2 s of pause
	})
}

func TestTheProgramOfThePackageNeedNotBeatUntilItDid(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.Package] = func(f *fake) { f.beat(0) }
		done := make(chan int)
		go func() { done <- r.run() }()
		<-time.After(24 * time.Hour)
		r.wants(slot.Idle, slot.Package, 0)
		r.stop <- syscall.SIGTERM // which it ignores
		<-time.After(24 * time.Second)
		select {
		case <-done:
			t.Error("it was killed in less than 25 seconds")
		default:
		}
		<-done
	})
	inTime(t, func(r *rig) {
		r.scripts[slot.Package] = func(f *fake) { f.beat(1) }
		r.runs(30 * time.Second)
		r.wants(slot.Idle, slot.Package, 0, 21)
	})
}

func TestATrialWithoutAVerdictEndsByTheClock(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.A], r.scripts[slot.Package] = (*fake).live, (*fake).live
		r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
		r.runs(15 * time.Minute)
		r.wants(slot.RolledBack, slot.Package, 0, 600)
		if p, _ := r.launcher.slots.Phase(); p.Last.Reason != slot.Hang {
			t.Errorf("got %+v", p.Last)
		}
	})
}

func TestAReleaseThatConfirmsItselfIsLeftToRun(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.A] = func(f *fake) {
			f.beat(12)
			r.must(slot.Open(r.cfg.State).Agent(slot.A).Confirm())
			f.live()
		}
		r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
		if code := r.runs(24 * time.Hour); code != 0 {
			t.Errorf("got exit code %d", code)
		}
		r.wants(slot.Confirmed, slot.A, 0)
	})
}

func TestAVerdictOfItsOwnGoesBackWithItsReason(t *testing.T) {
	for _, reason := range []slot.Reason{slot.NoLink, slot.Canary, slot.Inference, slot.State} {
		inTime(t, func(r *rig) {
			r.scripts[slot.Package] = (*fake).live
			r.scripts[slot.A] = func(f *fake) {
				r.must(slot.Open(r.cfg.State).Agent(slot.A).Fail(reason))
				f.crash()
			}
			r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
			r.runs(time.Minute)
			r.wants(slot.RolledBack, slot.Package, 0, 0)
			p, _ := r.launcher.slots.Phase()
			if p.Last.Reason != reason || p.Last.Tail != "boom" || p.Provisional != (reason == slot.NoLink) {
				t.Errorf("%s: got %+v", reason, p)
			}
		})
	}
}

func TestStopsInATrialAreNoFailures(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.A] = (*fake).live
		r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
		var want []float64
		for i := range 5 {
			want = append(want, 10*float64(i))
			r.runs(10 * time.Second)
		}
		r.wants(slot.Trial, slot.A, want...)
	})
}

func TestAReleaseThatDoesNotStopWhenAskedGoesBackAfterThreeStarts(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.Package] = (*fake).live
		r.scripts[slot.A] = func(f *fake) { // systemd waits in vain for it to be ready, and asks it to stop
			for {
				select {
				case f.beats <- true:
				case <-f.killed:
					return
				}
			}
		}
		r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
		for range 4 {
			r.runs(2 * time.Minute)
		}
		r.wants(slot.RolledBack, slot.Package, 0, 145, 290, 435)
		if p, _ := r.launcher.slots.Phase(); p.Last == nil || p.Last.Reason != slot.Crash {
			t.Errorf("got %+v, want a crash", p.Last)
		}
	})
}

func TestWhoAsksToStopWhatIsBeingKilledDoesNotHideWhy(t *testing.T) {
	for name, tt := range map[string]struct {
		runs func(*fake)
		ask  time.Duration // after the start
	}{
		"a hang":             {func(f *fake) { f.beat(4) }, 35 * time.Second},
		"no verdict in time": {(*fake).live, time.Minute + DefaultTiming().Grace},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(r *rig) {
				r.dying = time.Second
				r.scripts[slot.A], r.scripts[slot.Package] = tt.runs, (*fake).live
				r.must(r.staged("2", slot.Package).Switch(time.Minute))
				if code := r.runs(tt.ask + time.Second/2); code != 137 {
					t.Errorf("got exit code %d", code)
				}
				r.wants(slot.RolledBack, slot.Package, 0)
			})
		})
	}
}

func TestAVerdictStandsWhereItsProgramIsAskedToStopBeforeItEnds(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.A] = func(f *fake) {
			f.beat(2)
			r.must(slot.Open(r.cfg.State).Agent(slot.A).Fail(slot.Canary))
			<-f.killed
		}
		r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
		if code := r.runs(20 * time.Second); code != 137 {
			t.Errorf("got exit code %d", code)
		}
		r.wants(slot.RolledBack, slot.Package, 0)
		if p, _ := r.launcher.slots.Phase(); p.Last == nil || p.Last.Reason != slot.Canary {
			t.Errorf("got %+v", p.Last)
		}
	})
}

func TestAReleaseIsNotStoppedForEver(t *testing.T) {
	inTime(t, func(r *rig) { // it is never ready, and systemd asks it to stop each time
		r.scripts[slot.A], r.scripts[slot.Package] = (*fake).live, (*fake).live
		r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
		for range 14 {
			r.runs(2 * time.Minute)
		}
		if n := len(r.slots); r.slots[n-2] != slot.A || r.slots[n-1] != slot.Package {
			t.Errorf("started %q, want that of the package at last", r.slots)
		}
		if p, _ := r.launcher.slots.Phase(); p.Last == nil || p.Last.Reason != slot.Crash {
			t.Errorf("got %+v, want a crash", p.Last)
		}
	})
}

func TestAProgramThatDoesNotEndAfterItsLastWordIsKilled(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.Package] = func(f *fake) {
			if a := slot.Open(r.cfg.State).Agent(slot.Package); len(r.starts) == 1 {
				r.must(a.Switch(5 * time.Minute))
			}
			f.live()
		}
		r.scripts[slot.A] = func(f *fake) {
			f.beat(2)
			r.must(slot.Open(r.cfg.State).Agent(slot.A).Fail(slot.Canary))
			f.live()
		}
		r.staged("2", slot.Package)
		r.runs(4 * time.Minute)
		r.wants(slot.RolledBack, slot.Package, 0, 30, 70)
		if p, _ := r.launcher.slots.Phase(); p.Last == nil || p.Last.Reason != slot.Canary || p.Last.Tail != "last words" {
			r.Errorf("got %+v", p.Last)
		}
	})
}

func TestWhoAsksAgainToStopDoesNotPutTheEndOff(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.Package] = func(f *fake) { <-f.killed }
		asks := time.NewTicker(10 * time.Second)
		defer asks.Stop()
		done := make(chan int)
		go func() { done <- r.run() }()
		for {
			select {
			case <-asks.C:
				r.stop <- syscall.SIGTERM
				continue
			case <-done:
			}
			break
		}
		if took := time.Since(r.began); took != 10*time.Second+r.cfg.Stop {
			r.Errorf("it ended after %v", took)
		}
	})
}

func TestAPauseEndsWithTheLauncher(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.Package] = (*fake).crash
		if code := r.runs(40 * time.Second); code != 0 {
			t.Errorf("got exit code %d", code)
		}
		if since := time.Since(r.began); since != 40*time.Second {
			t.Errorf("it took until %v", since)
		}
	})
}

func TestAnOldProgramThatAsksForATrialNeedNotWaitForIt(t *testing.T) {
	inTime(t, func(r *rig) {
		r.scripts[slot.Package] = func(f *fake) {
			r.must(r.staged("2", slot.Package).Switch(5 * time.Minute))
			f.crash() // however it ends
		}
		r.scripts[slot.A] = (*fake).live
		r.runs(10 * time.Second)
		r.wants(slot.Trial, slot.A, 0, 0)
		if !slices.Equal(r.slots, []slot.Name{slot.Package, slot.A}) {
			t.Errorf("got %v", r.slots)
		}
	})
}
