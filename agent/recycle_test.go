package agent

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
	"github.com/limber-edge/limber/family"
)

func TestR4_ManyHangsEndTheAgent(t *testing.T) {
	var told []string
	a := &Agent{log: slog.New(slog.DiscardHandler), news: newNews(func(_ wire.Severity, e wire.Event) { told = append(told, e.Detail) })}
	c := &crew{family: &family.Family{Members: []family.Member{{Name: "only"}}}, front: []int{0},
		sessions: make([]family.Session, 1), hung: make(chan int, hangsMost), over: make(chan struct{})}
	for range hangsMost {
		switches{a, c}.Hung(0)
	}
	switches{a, c}.Hung(0) // nobody waits for more
	err := a.recycle(t.Context(), c)
	if !errors.Is(err, ErrHung) || !strings.Contains(err.Error(), "member only: 3 inferences") {
		t.Errorf("got %v, want an end", err)
	}
	if len(told) == 0 || !strings.Contains(told[0], "only hung") {
		t.Errorf("told of %q", told)
	}
	c.close() // frees nothing: a session may still be running
}
