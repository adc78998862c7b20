package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// answers is how long the broker may take to send a device what it published itself.
const answers = 5 * time.Second

// Access tries whether the broker lets the device read and write its own topics. MQTT
// 3.1.1 has no answer for a publish that an access list drops, and most brokers grant
// subscriptions of which they then send nothing. Only what comes back proves anything, and
// the one topic that a device both writes and reads is its state.
//
// It is published as the broker has it retained, without being retained again, so whoever
// reads it learns nothing new; where there is none yet it says offline.
type Access struct {
	Link mqtt.Config // but for its broker
	URLs mqtt.URLs   // of which the first that answers is asked
	Self wire.Address
	Name string // by which the broker knows this client, as far as that can be told
}

// Run implements Check.
func (a Access) Run(ctx context.Context) Finding {
	const check = "access"
	link, known, err := a.reach(ctx)
	if err != nil {
		return fails(check, Error, "as for broker", "not known without a connection")
	}
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	if known {
		return holds(check, Warning, "not tried: this broker knows a client by its name alone, and a visit would take "+
			"the device's session")
	}
	// The state first, so that it comes before all that may wait for the device.
	filters := append([]mqtt.Subscription{{Filter: a.Self.State(), QoS: 1}}, link.Subscriptions...)
	v, o, err := open(ctx, link, true, a.Self.State(), filters)
	if err != nil {
		return fails(check, Error, "as for broker", "the broker accepts a connection but no subscriptions: %v", err)
	}
	defer v.close()
	if len(o.denied) > 0 {
		return fails(check, Error, a.remedy(), "the broker does not let %s read %s", a.who(), strings.Join(o.denied, " "))
	}
	err = a.roundTrip(ctx, v)
	if errors.Is(err, context.DeadlineExceeded) {
		return fails(check, Error, a.remedy(), "what %s publishes to %s does not come back: it may not write there, or not "+
			"read", a.who(), a.Self.State())
	} else if err != nil {
		return failsBy(check, Error, a.remedy(), err)
	}
	return holds(check, Error, "%s is written and read, %d filters are granted", a.Self.State(), len(filters))
}

// reach is the link to the first broker that answers, and whether that has a session of the
// device for a visitor.
func (a Access) reach(ctx context.Context) (link mqtt.Config, known bool, err error) {
	link = a.Link
	for _, link.Broker = range a.URLs {
		limited, cancel := context.WithTimeout(ctx, reach)
		known, err = knock(limited, link)
		cancel()
		if err == nil {
			break
		}
	}
	return link, known, err
}

// who is the client in words.
func (a Access) who() string {
	if a.Name == "" {
		return "this client"
	}
	return fmt.Sprintf("%q", a.Name)
}

func (a Access) remedy() string {
	if a.Name != "" && a.Name != a.Self.Device {
		return fmt.Sprintf("its name at the broker is not the device's, %s: make them the same", a.Self.Device)
	}
	return "give the broker the access list of broker-config (broker-config/mosquitto/acl), with the groups of this device"
}

// roundTrip publishes the device's state and waits until it comes back.
func (a Access) roundTrip(ctx context.Context, v *visit) error {
	if err := v.Probe(ctx); err != nil { // what is retained has come by then
		return err
	}
	payload, err := v.retained()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	if err := v.Publish(ctx, mqtt.Message{Topic: v.topic, Payload: payload, QoS: 1}); err != nil {
		return err
	}
	return v.await(ctx, func(m mqtt.Message) bool { return !m.Retained && bytes.Equal(m.Payload, payload) })
}

// handing is how long what has come may take to be handed on.
const handing = time.Second

// retained is the state that the broker keeps, or else one for a device that never was
// there.
func (v *visit) retained() ([]byte, error) {
	none := time.After(handing)
	for {
		select {
		case m := <-v.arrived:
			if m.Retained {
				return m.Payload, nil
			}
		case <-none:
			return json.Marshal(wire.State{State: wire.Offline, BootID: "0000000000000000", TS: wire.At(time.Now())})
		}
	}
}
