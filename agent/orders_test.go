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

func TestOrdersWaitInTurnAndOnce(t *testing.T) {
	q, acked := newOrders(2), map[string]int{}
	for _, tt := range []struct {
		topic, payload string
		want           bool
	}{
		{"desk/desired", "1", true},
		{"desk/cmd/mode/a", "x", true},
		{"desk/cmd/mode/b", "x", true},
		{"desk/cmd/mode/c", "x", false},
		{"desk/cmd/mode/a", "x", true}, // delivered again
		{"desk/cmd/mode/a", "y", false},
		{"@all/desired", "2", true},
		{"desk/desired", "3", true}, // takes the place of 1
	} {
		if got := q.put(mustOrder(t, tt.topic, tt.payload, acked)); got != tt.want {
			t.Errorf("%s %s: taken %v, want %v", tt.topic, tt.payload, got, tt.want)
		}
	}
	if acked["desk/desired1"] != 1 || len(acked) != 1 {
		t.Errorf("acknowledged %v, want the desired state that is out of date", acked)
	}
	var got []string
	for len(q.some) > 0 {
		<-q.some
		o, ok := q.take()
		if !ok {
			t.Fatal("a token, but no order")
		}
		got = append(got, fmt.Sprint(o.topic.Device, o.topic.ID, string(o.msg.Payload)))
		o.ack()
	}
	if want := []string{"deskax", "deskbx", "@all2", "desk3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if acked["desk/cmd/mode/ax"] != 2 {
		t.Errorf("acknowledged %v, want both deliveries of a", acked)
	}
	if !q.put(mustOrder(t, "desk/cmd/mode/c", "x", acked)) {
		t.Error("no room once all were taken")
	}
}
