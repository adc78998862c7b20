package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

// bubble runs a test in a bubble, with a line to one who has a blob of n bytes.
func bubble(t *testing.T, n int, run func(t *testing.T, l *line, f *Fetcher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &line{blob: random(n), trip: 50 * time.Millisecond, each: time.Millisecond}
		run(t, l, fetcherOf(t.TempDir(), l))
	})
}

// sent is how many bytes of the blob were asked for.
func (l *line) sent() (n int64) {
	for _, a := range l.asks() {
		n += int64(len(cutOut(l.blob, a)))
	}
	return n
}

func TestABlobIsPulledInParts(t *testing.T) {
	for _, n := range []int{1, wire.BlobPart - 1, wire.BlobPart, wire.BlobPart + 1, windowBytes, 3*windowBytes + 5} {
		bubble(t, n, func(t *testing.T, l *line, f *Fetcher) {
			mustComplete(t, f, wantedOf(l.blob))
			asks := l.asks()
			if most := (n+wire.BlobPart-1)/wire.BlobPart + windowParts; len(asks) > most {
				t.Errorf("%d bytes were asked for %d times, want at most %d", n, len(asks), most)
			}
			if got := f.Counts(); got.Bytes != uint64(n) {
				t.Errorf("%d bytes came for %d", got.Bytes, n)
			}
			if n < wire.BlobPart && len(asks) != 1 {
				t.Errorf("%d bytes were asked for %d times, want once", n, len(asks))
			}
		})
	}
}

func TestNoMoreThanAWindowIsAskedForAtOnce(t *testing.T) {
	bubble(t, 5*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		open := map[int64]int{}
		l.answer = func(a wire.Fetch) ([]byte, bool) {
			open[a.Offset] = a.Bytes
			sum := 0
			for _, n := range open {
				sum += n
			}
			if sum > windowBytes {
				t.Errorf("%d bytes are asked for at once", sum)
			}
			return cutOut(l.blob, a), true
		}
		mustProgress(t, f, wantedOf(l.blob), func(done int64) {
			l.mu.Lock()
			defer l.mu.Unlock()
			maps.DeleteFunc(open, func(at int64, n int) bool { return at+int64(n) <= done })
		})
	})
}

// mustProgress fetches a blob and has its progress seen.
func mustProgress(tb testing.TB, f *Fetcher, w Wanted, progress func(int64)) {
	tb.Helper()
	if b, err := f.Fetch(tb.Context(), w, progress); err != nil || family.DigestOf(b) != w.Digest {
		tb.Fatalf("%d bytes, %v", len(b), err)
	}
}

func TestALostPartIsAskedForAgainOnceLaterOnesCame(t *testing.T) {
	bubble(t, 4*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		lost := false
		l.answer = func(a wire.Fetch) ([]byte, bool) {
			if a.Offset == 5*wire.BlobPart && !lost {
				lost = true
				return nil, false
			}
			return cutOut(l.blob, a), true
		}
		began := time.Now()
		mustComplete(t, f, wantedOf(l.blob))
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v: the silence was waited for", took)
		}
		if again := l.sent() - int64(len(l.blob)); again > windowBytes+wire.BlobPart {
			t.Errorf("%d bytes more than there are were asked for", again)
		}
	})
}

func TestHalfOfTheMessagesLostTheBlobComesAllTheSame(t *testing.T) {
	bubble(t, 2*windowBytes+3, func(t *testing.T, l *line, f *Fetcher) {
		n := 0
		l.answer = func(a wire.Fetch) ([]byte, bool) {
			n++
			return cutOut(l.blob, a), n%2 == 0
		}
		mustComplete(t, f, wantedOf(l.blob))
	})
}

func TestASlowLinkIsNotASilentOne(t *testing.T) {
	bubble(t, 3*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		l.each = 4 * time.Second // 16 KiB/s: a window takes longer than the first patience
		mustComplete(t, f, wantedOf(l.blob))
		if sum, most := l.sent(), int64(len(l.blob)+windowBytes); sum > most {
			t.Errorf("%d bytes were asked for, want at most %d", sum, most)
		}
		if f.Counts().Bytes != uint64(len(l.blob)) {
			t.Errorf("%d bytes came for %d", f.Counts().Bytes, len(l.blob))
		}
	})
}

func TestARoundTripOfSecondsDoesNotAskTwice(t *testing.T) {
	bubble(t, 3*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		l.trip = 3 * time.Second
		mustComplete(t, f, wantedOf(l.blob))
		if f.Counts().Ignored > 0 {
			t.Errorf("%d parts came twice", f.Counts().Ignored)
		}
	})
}

func TestAfterACutAtMostAWindowIsAskedForAgain(t *testing.T) {
	bubble(t, 4*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		cut := false
		l.answer = func(a wire.Fetch) ([]byte, bool) {
			if a.Offset == 6*wire.BlobPart && !cut {
				cut, l.offline = true, true
				time.AfterFunc(time.Minute, func() {
					l.mu.Lock()
					l.offline = false
					l.mu.Unlock()
				})
			}
			return cutOut(l.blob, a), !l.offline
		}
		mustComplete(t, f, wantedOf(l.blob))
		if again := l.sent() - int64(len(l.blob)); again > windowBytes {
			t.Errorf("%d bytes were asked for again, want at most %d", again, windowBytes)
		}
	})
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	bubble(t, 4*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := f.Fetch(ctx, wantedOf(l.blob), func(done int64) {
			if done >= 2*windowBytes {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want %v", err, context.Canceled)
		}
		before := l.sent()
		mustComplete(t, fetcherOf(f.cfg.Dir, l), wantedOf(l.blob))
		if again := l.sent() - int64(len(l.blob)); again > windowBytes || before < 2*windowBytes {
			t.Errorf("%d bytes were asked for again after %d, want at most %d", again, before, windowBytes)
		}
	})
}

func TestWhatNobodyAskedForIsCountedAndIgnored(t *testing.T) {
	bubble(t, 2*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		digest, other := string(family.DigestOf(l.blob)), string(family.DigestOf(nil))
		f.Receive(partOf(digest, 0), l.blob[:wire.BlobPart]) // nothing is being fetched
		garbage := 1
		l.answer = func(a wire.Fetch) ([]byte, bool) {
			garbage += 5
			f.Receive(partOf(other, a.Offset), make([]byte, 10))
			f.Receive(partOf(digest, a.Offset+1), make([]byte, 10))
			f.Receive(partOf(digest, a.Offset+100*wire.BlobPart), nil)
			f.Receive(partOf(digest, a.Offset), make([]byte, a.Bytes+1))
			time.AfterFunc(time.Minute, func() { f.Receive(partOf(digest, a.Offset), make([]byte, 10)) })
			return cutOut(l.blob, a), true
		}
		mustComplete(t, f, wantedOf(l.blob))
		time.Sleep(time.Hour) // of the bubble's clock
		got := f.Counts()
		if late := got.Ignored - uint64(garbage); late > windowParts || got.Bytes != uint64(len(l.blob)) {
			t.Errorf("%+v, want %d ignored, and what was asked for behind the end, and %d bytes", got, garbage, len(l.blob))
		}
	})
}

func TestThreeWrongOnesOverTheBrokerAreInvalid(t *testing.T) {
	for name, sent := range map[string][]byte{"other bytes": random(70_000), "fewer": random(wire.BlobPart),
		"more": random(9 * windowBytes)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 70_001, func(t *testing.T, l *line, f *Fetcher) {
				wanted := wantedOf(l.blob)
				l.blob = sent
				_, err := f.Fetch(t.Context(), wanted, nil)
				if refused(err) != string(wire.Invalid) {
					t.Errorf("got %v, want %s", err, wire.Invalid)
				}
				if sum, most := l.sent(), 3*(wanted.Max+windowBytes); sum > most {
					t.Errorf("%d bytes were asked for, want at most %d", sum, most)
				}
			})
		})
	}
}

func TestABlobThatIsWithdrawnIsWaitedForAndGoesOn(t *testing.T) {
	bubble(t, 3*windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		var withdrawn time.Time
		l.answer = func(a wire.Fetch) ([]byte, bool) {
			if a.Offset == 4*wire.BlobPart && withdrawn.IsZero() {
				withdrawn = time.Now()
			}
			if !withdrawn.IsZero() && time.Since(withdrawn) < time.Minute {
				return nil, true
			}
			return cutOut(l.blob, a), true
		}
		mustComplete(t, f, wantedOf(l.blob))
		if f.Counts().Bytes > uint64(len(l.blob)+windowBytes) {
			t.Errorf("%d bytes came for %d", f.Counts().Bytes, len(l.blob))
		}
	})
}

func TestPartsThatAreShorterThanAskedForAreParts(t *testing.T) {
	bubble(t, windowBytes, func(t *testing.T, l *line, f *Fetcher) {
		l.answer = func(a wire.Fetch) ([]byte, bool) {
			a.Bytes = min(a.Bytes, 10_000)
			return cutOut(l.blob, a), true
		}
		mustComplete(t, f, wantedOf(l.blob))
	})
}

func TestWithoutASourceThatIsAllowedAndWithoutAnAnswerItIsUnauthorized(t *testing.T) {
	for name, answer := range map[string]func(wire.Fetch) ([]byte, bool){
		"there is none":  func(wire.Fetch) ([]byte, bool) { return nil, true },
		"nobody answers": func(wire.Fetch) ([]byte, bool) { return nil, false },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 10, func(t *testing.T, l *line, f *Fetcher) {
				l.answer = answer
				_, err := f.Fetch(t.Context(), wantedOf(l.blob, "http://evil.example/"), nil)
				if refused(err) != string(wire.Unauthorized) {
					t.Errorf("got %v, want %s", err, wire.Unauthorized)
				}
			})
		})
	}
}

func TestWhatNobodyHasIsWaitedForAndSaidWhy(t *testing.T) {
	bubble(t, 10, func(t *testing.T, l *line, f *Fetcher) {
		l.answer = func(wire.Fetch) ([]byte, bool) { return nil, true }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := f.Fetch(ctx, wantedOf(l.blob), nil)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errEmpty) {
			t.Errorf("got %v, want both what ended it and what was wrong", err)
		}
		if n := len(l.asks()); n < 300 || n > 800 {
			t.Errorf("%d asks in an hour", n)
		}
	})
}

func TestTheSizeOverTheBrokerIsAPowerOfTwo(t *testing.T) {
	for _, tt := range []struct{ n, want, asks int }{{1, 64 << 10, 2}, {64 << 10, 64 << 10, 2}, {64<<10 + 1, 128 << 10, 2},
		{5 << 20, 6 << 20, 7}} { // the last one: Max
		bubble(t, tt.n, func(t *testing.T, l *line, f *Fetcher) {
			n, err := f.Size(t.Context(), wantedOf(l.blob))
			if n != int64(tt.want) || err != nil || len(l.asks()) != tt.asks {
				t.Errorf("%d bytes: got %d, %v by %d asks; want %d by %d", tt.n, n, err, len(l.asks()), tt.want, tt.asks)
			}
		})
	}
}

func TestTheRateBoundsWhatIsPulled(t *testing.T) {
	bubble(t, 1<<20, func(t *testing.T, l *line, f *Fetcher) {
		f.rate = newRate(64)
		began := time.Now()
		mustComplete(t, f, wantedOf(l.blob))
		if took := time.Since(began); took < 15*time.Second || took > 18*time.Second {
			t.Errorf("a MiB at 64 KiB/s took %v", took)
		}
		if f.Counts().Ignored > 0 {
			t.Errorf("%d parts came twice", f.Counts().Ignored)
		}
	})
}

func TestAFullDiskIsNoSpace(t *testing.T) {
	if got := refused(spaceless(fmt.Errorf("write: %w", syscall.ENOSPC))); got != string(wire.NoSpace) {
		t.Errorf("got %s", got)
	}
	bubble(t, 10, func(t *testing.T, l *line, f *Fetcher) {
		w := wantedOf(l.blob)
		if err := os.Symlink("/dev/full", filepath.Join(f.cfg.Dir, string(w.Digest)+partSuffix)); err != nil {
			t.Skip(err)
		}
		if _, err := f.Fetch(t.Context(), w, nil); err == nil {
			t.Error("what is written to a full disk is there")
		}
	})
}

// FuzzReceive: whatever comes, and whenever, the blob comes.
func FuzzReceive(f *testing.F) {
	f.Add(int64(0), []byte{}, uint8(1))
	f.Add(int64(wire.BlobPart), []byte("x"), uint8(3))
	f.Add(int64(1), bytes.Repeat([]byte("x"), 100), uint8(0))
	f.Fuzz(func(t *testing.T, offset int64, payload []byte, every uint8) {
		bubble(t, windowBytes+7, func(t *testing.T, l *line, f *Fetcher) {
			digest, n := string(family.DigestOf(l.blob)), 0
			l.answer = func(a wire.Fetch) ([]byte, bool) {
				if n++; every > 0 && n%(int(every)+1) == 0 && n < 20 {
					f.Receive(partOf(digest, offset), slices.Clone(payload))
					return nil, false
				}
				return cutOut(l.blob, a), true
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			b, err := f.Fetch(ctx, wantedOf(l.blob), nil)
			if refused(err) != string(wire.Invalid) && (err != nil || !bytes.Equal(b, l.blob)) {
				t.Errorf("got %d bytes, %v", len(b), err)
			}
		})
	})
}
