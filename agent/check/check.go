// Package check finds out whether a device is fit to run, before it does or while it
// does.
//
//	Config ──▶ All ──▶ runtime, providers, clock, ... ──▶ a Finding each
//
// A check is a struct of what it looks at, and a Run. It shares nothing with the
// others: what two of them need, such as a connection, each makes for itself, so each
// says what it found whatever became of those before it. The gravest that a check can
// find is its level: an error keeps the device from its work, a warning is something to
// know.
//
// The rule that makes it harmless: nothing is changed, and nobody is disturbed, least
// of all the agent that may be running. Its files are looked at and not locked, what is
// written into its folder is removed, and the broker is visited under another client id,
// without a will. A broker may know a client by its certificate and not by its id; then
// it gives a visitor the device's own session, which is noticed before anything in it is
// touched. See Access.
package check

import (
	"context"
	"fmt"
	"strings"

	"github.com/limber-edge/limber/agent/config"
	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/uplink"
	"github.com/limber-edge/limber/firmware/power"
)

// Level is how much a check matters that does not hold.
type Level string

// The levels.
const (
	Error   Level = "error"   // the device does not do its work
	Warning Level = "warning" // it does, but not as well as it could, or not for long
)

// Finding is what a check found.
type Finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Level  Level  `json:"level"` // where it holds, the gravest that it could have found
	Detail string `json:"detail"`
	Remedy string `json:"remedy"` // empty if it holds
}

// Check looks at one thing.
type Check interface {
	Run(ctx context.Context) Finding
}

// All are the checks of a device with a configuration that is valid, in their order.
func All(cfg config.Config) ([]Check, error) {
	link, err := cfg.Link()
	if err != nil {
		return nil, err
	}
	return []Check{
		Runtime{},
		Providers{cfg.Runtime.Providers},
		Clock{uplink.BuiltAt()},
		Disk{cfg.State, int64(cfg.Outbox.FreeMiB) << 20},
		Memlock{lockedMemory},
		Broker{Link: link, URLs: cfg.Broker.URL},
		Certificate{cfg.Broker.Broker, cfg.Device},
		Access{link, cfg.Broker.URL, cfg.Address(), nameAt(cfg.Broker.Broker)},
		Power{power.New("/"), cfg.Power.SetMode, cfg.Power.Socket},
		Slots{cfg.State},
		Lock{cfg.State, "/"},
	}, nil
}

// nameAt is the name that a broker knows a client by, as far as that can be told: its
// certificate's, or its user.
func nameAt(b mqtt.Broker) string {
	if b.CertFile == "" {
		return b.User
	}
	if cert, err := leaf(b.CertFile); err == nil {
		return cert.Subject.CommonName
	}
	return "" // the check of the certificate says why
}

func holds(check string, l Level, format string, args ...any) Finding {
	return Finding{Check: check, OK: true, Level: l, Detail: fmt.Sprintf(format, args...)}
}

func fails(check string, l Level, remedy, format string, args ...any) Finding {
	return Finding{Check: check, Level: l, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

// failsBy is fails for an error that names its remedy behind its last semicolon, as those
// of this program do; one that names none gets the remedy given.
func failsBy(check string, l Level, remedy string, err error) Finding {
	detail := err.Error()
	if i := strings.LastIndex(detail, "; "); i >= 0 {
		detail, remedy = detail[:i], detail[i+len("; "):]
	}
	return fails(check, l, remedy, "%s", detail)
}
