// Package brokercheck finds out whether a broker does what Limber asks of one.
//
//	sweep ──▶ qos1 ──▶ retain ──▶ ... ──▶ latency ──▶ sweep
//	            │         │                  │
//	            ▼         ▼                  ▼
//	         Result    Result             Result
//
// A check is a function of its own: it connects as an operator or a device would,
// does one thing, and says what it got. It shares nothing with the others but the
// broker, has its own limit of time, and its topics and client ids are no device's.
//
// The rule that makes it harmless: all of it happens below limber/v1/limber-check,
// a fleet that has no device. What the broker retains there is cleared before the
// first check and after the last one, and by the wills of those who had it retained:
// what a run leaves behind that is killed in between is gone after the next at latest.
package brokercheck

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// Fleet is the one that the checks publish in.
const Fleet = "limber-check"

const (
	// limit bounds all of it but what follows the checks, which lastSweep does.
	limit     = 50 * time.Second
	lastSweep = 5 * time.Second
	// firstSweep is longer: a broker may make its storage for the first connection.
	firstSweep = 15 * time.Second
)

// Skipped is what a check got that could not run.
const Skipped = "skipped"

// Config says which broker is checked, and as whom.
type Config struct {
	Operator mqtt.Broker // may read and write limber/#
	Device   mqtt.Broker // the same broker, by a device's name; see DeviceName
	Name     string      // of that device; empty: what needs one is skipped
}

// Result is what one check found.
type Result struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"` // also where it was skipped
	Got    string `json:"got"`
	Want   string `json:"want"`
	Remedy string `json:"remedy"` // empty if it holds
}

// check is one of them.
type check struct {
	name, want, remedy string
	limit              time.Duration
	device             bool // needs a device's name
	// run says what it got, as an error where that is not what is wanted.
	run func(ctx context.Context, p probe) (got string, err error)
}

// Names are those of the checks, in their order.
func Names() (names []string) {
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// Run does the checks one after another, in less than a minute. It calls begin
// before each and tell with what it found. Its error says why there was nothing to
// find.
func Run(ctx context.Context, cfg Config, begin func(name string), tell func(Result)) error {
	p := probe{cfg}
	late, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := p.sweep(late, firstSweep); err != nil {
		return fmt.Errorf("broker %s: %w", cfg.Operator.URL, err)
	}
	for _, c := range checks() {
		if ctx.Err() != nil {
			break
		}
		begin(c.name)
		tell(c.do(late, p))
	}
	err := p.sweep(context.WithoutCancel(ctx), lastSweep)
	return errors.Join(ctx.Err(), err)
}

// do runs the check within its limit.
func (c check) do(ctx context.Context, p probe) Result {
	r := Result{Check: c.name, Want: c.want, OK: true}
	if c.device && p.cfg.Name == "" {
		r.Got = Skipped
		r.Remedy = "give --device-cert-file and --device-key-file of a device, or --device-user"
		return r
	}
	if ctx.Err() != nil {
		r.OK, r.Got, r.Remedy = false, "no time left", "the checks before this one took too long"
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	got, err := c.run(ctx, p)
	switch {
	case err == nil:
		r.Got = got
	case errors.Is(err, context.DeadlineExceeded):
		r.OK, r.Got, r.Remedy = false, fmt.Sprintf("nothing within %v", c.limit), c.remedy
	default:
		r.OK, r.Got, r.Remedy = false, err.Error(), c.remedy
	}
	return r
}

// probe makes the clients of the checks.
type probe struct{ cfg Config }

// everything is what the checks publish.
const everything = wire.Root + "/" + Fleet + "/#"

// topic is one below the fleet of the checks.
func topic(device, rest string) string { return wire.Root + "/" + Fleet + "/" + device + "/" + rest }

// sweep clears what is retained below the fleet of the checks.
func (p probe) sweep(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := p.open(ctx, "sweep", subscribed(everything))
	if err != nil {
		return err
	}
	defer c.close()
	if c.Counts().Denied > 0 {
		return fmt.Errorf("this user may not read %s: check it as the operator", everything)
	}
	retained, err := c.pending(ctx)
	if err != nil {
		return fmt.Errorf("nothing that this user publishes to %s comes back, it may not write there: check it as the operator",
			everything)
	}
	for _, m := range retained {
		if !m.Retained || len(m.Payload) == 0 {
			continue
		}
		if err := c.Publish(ctx, mqtt.Message{Topic: m.Topic, QoS: 1, Retained: true}); err != nil {
			return fmt.Errorf("clear %s: %w", m.Topic, err)
		}
	}
	return nil
}

// DeviceName is the name that a broker knows a device by: the common name of its
// certificate, or else its user; empty if there is neither.
func DeviceName(b mqtt.Broker) (string, error) {
	if b.CertFile == "" {
		return b.User, nil
	}
	text, err := os.ReadFile(b.CertFile)
	if err != nil {
		return "", fmt.Errorf("the device's certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("the device's certificate: %s holds no PEM", b.CertFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("the device's certificate: %s: %w", b.CertFile, err)
	}
	if !wire.ValidName(cert.Subject.CommonName) {
		return "", fmt.Errorf("the device's certificate: %s: the common name %q is no device's", b.CertFile,
			cert.Subject.CommonName)
	}
	return cert.Subject.CommonName, nil
}
