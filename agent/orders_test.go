package agent

import (
	"fmt"
	"slices"
	"testing"

	"github.com/limber-edge/limber/agent/mqtt"
	"github.com/limber-edge/limber/agent/wire"
)

// mustOrder is an order as it comes from the broker; acked counts what the
// broker is told.
func mustOrder(t *testing.T, topic, payload string, acked map[string]int) order {
	t.Helper()
	at, err := wire.ParseTopic(wire.Root + "/demo/" + topic)
	if err != nil {
		t.Fatal(err)
	}
	return order{topic: at, msg: mqtt.Message{Payload: []byte(payload)}, acks: []func(){func() { acked[topic+payload]++ }}}
}

// drained takes all orders that wait.
func drained(t *testing.T, q *orders) (all []string) {
	t.Helper()
	for len(q.some) > 0 {
		<-q.some
		o, ok := q.take()
		if !ok {
			t.Fatal("a token, but no order")
		}
		all = append(all, fmt.Sprint(o.topic.Device, o.topic.ID, string(o.msg.Payload)))
		o.ack()
	}
	return all
}

func TestOrdersWaitInTurnAndOnce(t *testing.T) {
	q, acked := newOrders(2), map[string]int{}
	put := func(topic, payload string, want bool) {
		t.Helper()
		if got := q.put(mustOrder(t, topic, payload, acked)); got != want {
			t.Errorf("%s %s: taken %v, want %v", topic, payload, got, want)
		}
	}
	put("desk/cmd/mode/now", "x", true)
	if o, ok := q.take(); !ok || o.topic.ID != "now" {
		t.Fatalf("got %+v, %v", o, ok)
	}
	put("desk/desired", "1", true)
	put("desk/cmd/mode/a", "x", true)
	put("desk/cmd/mode/b", "x", true)
	put("desk/cmd/mode/c", "x", false)
	put("desk/cmd/mode/a", "x", true)   // delivered again
	put("desk/cmd/mode/now", "x", true) // likewise, while it is carried out
	put("desk/cmd/mode/a", "y", false)
	put("@all/desired", "2", true)
	put("desk/desired", "3", true) // the third: the first goes
	if acked["desk/desired1"] != 1 || len(acked) != 1 {
		t.Errorf("acknowledged %v, want the oldest desired state", acked)
	}
	if got, want := drained(t, q), []string{"deskax", "deskbx", "desknowx", "@all2", "desk3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if acked["desk/cmd/mode/ax"] != 2 {
		t.Errorf("acknowledged %v, want both deliveries of a", acked)
	}
	put("desk/cmd/mode/c", "x", false) // it was refused
	put("desk/cmd/mode/d", "x", true)
}
