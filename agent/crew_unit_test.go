package agent

import (
	"errors"
	"testing"

	"github.com/limber-edge/limber/family"
)

// trialShelf counts the sessions that it makes and that are closed.
type trialShelf struct {
	Shelf
	faulty       map[int]bool
	tried, freed int
}

func (s *trialShelf) Session(i int) (family.Session, error) {
	s.tried++
	if s.faulty[i] {
		return nil, errors.New("canary: a logit is far from the stored one")
	}
	return trialSession{shelf: s}, nil
}

type trialSession struct {
	family.Session
	shelf *trialShelf
}

func (s trialSession) Close() error {
	s.shelf.freed++
	return nil
}

func TestAProfileIsOutdatedWhenAFaultHasPassed(t *testing.T) {
	profile := func(faults ...string) *family.Profile {
		p := new(family.Profile)
		for _, fault := range faults {
			p.Members = append(p.Members, family.MemberProfile{Fault: fault})
		}
		return p
	}
	cut := family.Family{Supernet: "of all"}
	for _, tt := range []struct {
		name         string
		family       family.Family
		profile      *family.Profile
		faulty       map[int]bool
		want         bool
		tried, freed int
	}{
		{"none", cut, nil, nil, true, 0, 0},
		{"no faults", cut, profile("", "", ""), nil, false, 0, 0},
		{"a fault that stays", cut, profile("", "canary", ""), map[int]bool{1: true}, false, 1, 0},
		{"a fault that has passed", cut, profile("", "canary", ""), nil, true, 1, 1},
		{"one of two has passed", cut, profile("canary", "", "canary"), map[int]bool{0: true}, true, 2, 1},
		{"both have passed", cut, profile("canary", "", "canary"), nil, true, 1, 1},
		{"a foreign model's", family.Family{}, profile("", "trial", ""), nil, false, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			shelf := &trialShelf{faulty: tt.faulty}
			a := &Agent{parts: &Parts{Family: &tt.family}}
			if got := a.outdated(t.Context(), tt.profile, shelf); got != tt.want || shelf.tried != tt.tried || shelf.freed != tt.freed {
				t.Errorf("got %v after %d sessions, %d closed; want %v after %d, %d closed", got, shelf.tried, shelf.freed, tt.want, tt.tried, tt.freed)
			}
		})
	}
}
