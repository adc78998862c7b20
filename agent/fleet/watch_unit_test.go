package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/agent/wire"
)

func TestWhoWritesLabelsLastOfTwoIsToldThatOthersMayBeLost(t *testing.T) {
	t.Parallel()
	const ours, before, theirs = `{"labels":{"a":"1","site":"berlin"}}`, `{"labels":{"a":"1"}}`, `{"labels":{"a":"1","line":"2"}}`
	for _, tt := range []struct {
		name    string
		come    []string
		crossed bool
	}{
		{"alone", []string{ours}, false},
		{"what was there comes again", []string{before, ours}, false},
		{"another's in between", []string{theirs, ours}, true},
		{"all taken away in between", []string{"", ours}, true},
		{"another's behind", []string{ours, theirs}, false},
		{"what nobody can read", []string{`{"labels":`, ours}, false},
	} {
		c := newClient()
		receive(c, yard("cam-1").Labels(), before)
		l, end := c.labelling("cam-1", []LabelChange{{"site", "berlin"}})
		for _, payload := range tt.come {
			receive(c, yard("cam-1").Labels(), payload)
		}
		end()
		if err := l.err(); (err != nil) != tt.crossed {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

func mustWhere(t *testing.T, expression string) Where {
	t.Helper()
	w, err := ParseWhere(expression)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// ended is a context that is over: who reads with it gets what is there and waits for
// nothing.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestEachEventIsToldOnceAndWhatWentIsCounted(t *testing.T) {
	t.Parallel()
	c := newClient()
	event := func(name string, severity wire.Severity, count int) {
		receive(c, yard(name).Event(severity), fmt.Sprintf(`{"kind":"gap","count":%d}`, count))
	}
	receive(c, yard("cam-1").Labels(), `{"labels":{"site":"berlin"}}`)
	event("cam-1", "info", 1)
	event("cam-2", "error", 2)
	r := c.Registry().Events(mustWhere(t, "label.site=berlin"), wire.SeverityWarning)
	defer r.Close()
	next := func() string {
		h, err := r.Next(ended(t))
		if err != nil {
			return "nothing"
		}
		text := h.Device
		for _, e := range h.Events {
			text += fmt.Sprintf(" %s %d", e.Severity, e.Count)
		}
		return fmt.Sprintf("%s, %d lost", text, h.Lost)
	}
	want := func(what string) {
		t.Helper()
		if got := next(); got != what {
			t.Errorf("got %q, want %q", got, what)
		}
	}
	want("nothing") // an info, and another device
	event("cam-1", "warning", 3)
	event("cam-1", "info", 4)
	event("cam-1", "error", 5)
	event("cam-1", "unheard-of", 6)
	want("cam-1 warning 3 error 5 unheard-of 6, 0 lost")
	want("nothing")
	for i := range MaxEvents + 3 {
		event("cam-1", "error", 100+i)
	}
	if h, err := r.Next(ended(t)); err != nil || h.Lost != 3 || len(h.Events) != MaxEvents || h.Events[0].Count != 103 {
		t.Errorf("got %d events, %d lost, %v; want the last %d, and 3", len(h.Events), h.Lost, err, MaxEvents)
	}
	receive(c, yard("cam-1").Telemetry(), `{"jobs":3}`)
	want("nothing")
}

func TestAChangeIsToldOnceAndTelemetryIsNone(t *testing.T) {
	t.Parallel()
	c := newClient()
	tell(c, "cam-1")
	tell(c, "cam-2")
	receive(c, yard("@gate").Desired(), `{"version":7,"mode":"balanced"}`)
	r := c.Registry().Changes(mustWhere(t, "state!=lost"))
	defer r.Close()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	want := func(lines ...string) {
		t.Helper()
		var got []string
		for {
			change, err := r.Next(ended(t))
			if errors.Is(err, context.Canceled) {
				break
			}
			got = append(got, strings.ReplaceAll(change.Line(now), "\t", " "))
		}
		if !slices.Equal(got, lines) {
			t.Errorf("got %q, want %q", got, lines)
		}
	}
	const at = "2026-11-28T12:00:00Z "
	want(at+"cam-1 online - - - - - ", at+"cam-2 online - - - - - ")
	tell(c, "cam-1")
	receive(c, yard("cam-1").Telemetry(), `{"jobs":3}`)
	receive(c, yard("cam-1").Event("info"), `{"kind":"gap"}`)
	want()
	receive(c, yard("cam-1").Reported(), `{"mode":"balanced","member":"m"}`)
	receive(c, yard("cam-1").Labels(), `{"labels":{"site":"berlin","a":"b"}}`)
	receive(c, yard("cam-1").Caps(), `{"versions":{"agent":"v1"},"update":{"step":"locked","family":{"name":"yard"},"detail":"until\u001b[2J\n02:00"}}`)
	want(at + "cam-1 online balanced m - v1 a=b,site=berlin family yard in step locked: until [2J 02:00")
	receive(c, yard("cam-2").State(), `{"state":"lost"}`)
	want(at + "cam-2 gone - - - - - ")
	receive(c, yard("cam-2").State(), "")
	want()
	for _, topic := range []string{yard("cam-1").State(), yard("cam-1").Reported(), yard("cam-1").Caps(), yard("cam-1").Labels()} {
		receive(c, topic, "")
	}
	receive(c, yard("cam-1").Telemetry(), "")
	want(at + "cam-1 gone - - - - - ") // its events with it
}

func TestABoardShowsFirstWhoIsToBeLookedAtAndNoMoreThanThereIsRoom(t *testing.T) {
	t.Parallel()
	c := newClient()
	for i := range 5 {
		tell(c, fmt.Sprintf("cam-%d", i))
	}
	receive(c, yard("cam-3").State(), `{"state":"lost"}`)
	receive(c, yard("cam-4").State(), `{"state":"online","detail":"no inference: install it"}`)
	receive(c, yard("cam-2").Caps(), `{"update":{"step":"locked","family":{"name":"yard"}}}`)
	receive(c, yard("cam-1").State(), `{"state":"offline"}`)
	b := c.Registry().Board("yard", mustWhere(t, "device=cam-*"))
	defer b.Close()
	names := func(rows int) (order []string) {
		b.Update()
		lines := b.Lines(time.Time{}, 60, rows, nil)
		if len(lines) > rows {
			t.Errorf("%d lines in %d rows", len(lines), rows)
		}
		for _, l := range lines {
			if len([]rune(l)) > 60 {
				t.Errorf("%q is wider than 60", l)
			}
			order = append(order, strings.Fields(l + " ?")[0])
		}
		return order
	}
	if got, want := names(50), []string{"fleet", "?", "DEVICE", "cam-3", "cam-4", "no", "cam-2", "family", "cam-1", "cam-0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := names(10), []string{"fleet", "?", "DEVICE", "cam-3", "cam-4", "no", "cam-2", "family", "cam-1", "cam-0"}; !slices.Equal(got, want) {
		t.Errorf("just room enough: got %v, want %v", got, want)
	}
	if got, want := names(7), []string{"fleet", "?", "DEVICE", "cam-3", "cam-4", "no", "..."}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for rows := range 5 {
		names(rows)
	}
	if got := b.Lines(time.Time{}, 100, 9, errors.New("refused\n"))[0]; got != "fleet yard: 5 devices, 3 online, 1 offline, 1 lost, 1 updating; NO CONNECTION: refused " {
		t.Errorf("got %q", got)
	}
	receive(c, yard("cam-3").State(), "")
	if got := names(50); slices.Contains(got, "cam-3") {
		t.Errorf("got %v, want no cam-3 once it was forgotten", got)
	}
}

func TestABoardTellsRatesOfTheLastIntervalAndNoneOverARestart(t *testing.T) {
	t.Parallel()
	c := newClient()
	tell(c, "cam-1")
	b := c.Registry().Board("yard", Where{})
	defer b.Close()
	telemetry := func(second int, counts string) string {
		receive(c, yard("cam-1").Telemetry(), fmt.Sprintf(`{"ts":"2026-11-28T12:00:%02dZ",%s,"temps_c":{"a":-4,"b":41.6}}`, second, counts))
		b.Update()
		return strings.Join(strings.Fields(b.Lines(time.Time{}, 200, 9, nil)[3])[5:11], " ")
	}
	for _, tt := range []struct {
		second       int
		counts, want string
	}{
		{0, `"jobs":100,"queue":2`, "- - - 2 - 42"},
		{5, `"jobs":200,"refused":20,"missed":20,"p95_ms":7.25`, "20.0 25.0 7.2 0 - 42"},
		{10, `"jobs":200,"refused":20,"missed":20`, "0.0 - - 0 - 42"},
		{15, `"jobs":3`, "- - - 0 - 42"},
		{15, `"jobs":9`, "- - - 0 - 42"},
		{17, `"jobs":10,"cpu_percent":71.5`, "0.5 0.0 - 0 72 42"},
	} {
		if got := telemetry(tt.second, tt.counts); got != tt.want {
			t.Errorf("second %d: got %q, want %q", tt.second, got, tt.want)
		}
	}
}

func TestWhatIsToldOfACommandIsBoundedByItsDevices(t *testing.T) {
	t.Parallel()
	n := newTellings()
	put := func(device string, state wire.Step, progress *wire.Progress, ts int64) {
		n.put(Told{device, wire.Ack{State: state, Progress: progress, TS: wire.At(time.Unix(ts, 0))}})
	}
	put("cam-1", wire.CommandAccepted, nil, 0)
	put("cam-1", wire.CommandExecuting, nil, 1)
	for i := range int64(100) {
		put("cam-1", wire.CommandExecuting, &wire.Progress{Step: wire.UpdateFetching, Done: i}, 2)
		put("cam-2", wire.CommandAccepted, nil, 100+i)
	}
	put("cam-1", wire.CommandSucceeded, nil, 3)
	n.end()
	var got []string
	others := 0
	n.tell(func(t Told) {
		if t.Device == "cam-1" {
			got = append(got, string(t.State)+t.Words())
		} else {
			others++
		}
	})
	if want := []string{"accepted", "executing", "executingfetching", "succeeded"}; !slices.Equal(got, want) || others != toldMost {
		t.Errorf("got %v and %d of the other, want %v and %d", got, others, want, toldMost)
	}
}

func TestAComparisonIsToldInWords(t *testing.T) {
	for want, told := range map[string]wire.Ack{
		"shadow": {Progress: &wire.Progress{Step: wire.UpdateShadow}, Shadow: &wire.Agreement{}},
		"shadow; 187 of 200 frames agree, 2 would be late, p95 8.25 ms": {Progress: &wire.Progress{Step: wire.UpdateShadow},
			Shadow: &wire.Agreement{Frames: 200, Agreed: 187, P95MS: new(8.25), Missed: 2}},
		"1 of 1 frames agree, 0 would be late; compared only: family stock stays": {Shadow: &wire.Agreement{Frames: 1, Agreed: 1},
			Detail: "compared only: family stock stays"},
	} {
		if got := (Told{Ack: told}).Words(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAPayloadSaysWhenItExpires(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ given, want string }{
		{"", `{"expires_at":"2026-11-28T12:00:00.000Z"}`},
		{`{"mode":"balanced","later":{"a":1}}`, `{"expires_at":"2026-11-28T12:00:00.000Z","later":{"a":1},"mode":"balanced"}`},
		{`{"mode":"balanced","ttl_ms":5000}`, `{"mode":"balanced","ttl_ms":5000}`},
		{`{"expires_at":"2026-01-01T00:00:00Z"}`, `{"expires_at":"2026-01-01T00:00:00Z"}`},
	} {
		if got, err := Payload(tt.given, at); err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.given, got, err, tt.want)
		}
	}
	for _, bad := range []string{"balanced", "[]", `{"mode":7}`, `{"mode":"a","mode":"b"}`, `{"ttl_ms":-1}`,
		`{"ttl_ms":1,"expires_at":"2026-01-01T00:00:00Z"}`, strings.Repeat(" ", wire.MaxControl+1)} {
		if got, err := Payload(bad, at); err == nil {
			t.Errorf("%.60s became %s", bad, got)
		}
	}
}

func FuzzPayload(f *testing.F) {
	for _, s := range []string{"", "{}", `{"mode":"balanced"}`, `{"ttl_ms":5}`, `{"goal":{"min_top1":0.8},"x":[1,{"y":2}]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := Payload(s, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
		if err != nil {
			return
		}
		var c wire.Command
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatalf("%q became %q: %v", s, b, err)
		}
		if _, err := c.Expiry(time.Time{}); err != nil {
			t.Errorf("%q became %q: %v", s, b, err)
		}
	})
}

func TestAllThatIsKnownOfADeviceIsSaidWithUnits(t *testing.T) {
	t.Parallel()
	c := newClient()
	for topic, payload := range map[string]string{
		yard("cam-1").State():          `{"state":"online","boot_id":"b3f1","conn_seq":3,"ts":"2026-11-28T09:00:00Z","detail":"no GPU"}`,
		yard("cam-1").Labels():         `{"labels":{"site":"berlin","line":"2"}}`,
		yard("cam-1").Reported():       `{"version":6,"status":"rejected","reason":"infeasible","detail":"too fast","mode":"balanced","member":"m"}`,
		yard("@gate").Desired():        `{"version":6,"goal":{"min_top1":0.9}}`,
		yard("cam-1").Desired():        `{"version":5,"mode":"balanced"}`,
		yard("cam-1").Telemetry():      `{"ts":"2026-11-28T11:59:58Z","jobs":10,"refused":1,"missed":2,"superseded":3,"queue":4,"p95_ms":7.25,"cpu_percent":71.5,"temps_c":{"b":50,"a":41.5},"power_w":5.5,"throttled":true,"outbox":1,"clock_offset_ms":-1250}`,
		yard("cam-1").Event("warning"): `{"ts":"2026-11-28T11:00:00Z","kind":"switch","from":"l","member":"m","detail":"slack\u001b[2J","count":2}`,
		yard("cam-1").Caps(): `{"versions":{"agent":"v1","runtime":"1.30"},"verbs":["mode"],"groups":["@all","@gate"],"machine":"8aa3a67914c853eb",
			"family":{"name":"stock","digest":"sha256:0f"},"profile":{"ts":"2026-11-01T00:00:00Z","provider":"cpu","threads":1,"others_percent":3},
			"members":[{"name":"m","top1":0.8,"mmacs":5.8,"resolution":28,"p50_ms":1,"p95_ms":2},{"name":"l","top1":0.9,"mmacs":9,"resolution":32}],
			"power":{"modes":["MAXN","15W"],"mode":"15W","list":[{"name":"MAXN","id":0,"reboot":"required"},{"name":"15W","id":2,"reboot":"none"}]},"update":{"id":"r.2","step":"locked","detail":"until 02:00","family":{"name":"yard","digest":"sha256:0a"}},
			"last_update":{"id":"r.1","state":"failed","reason":"infeasible","rolled_back":true,"detail":"21 late","shadow":{"frames":200,"agreed":187,"agreement":0.935,"p95_ms":8.25,"missed":2},"ts":"2026-11-02T00:00:00Z","family":{"name":"yard","digest":"sha256:0a"}}}`,
	} {
		receive(c, topic, payload)
	}
	var got strings.Builder
	for _, f := range c.Registry().Whole("cam-1").Facts(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)) {
		fmt.Fprintf(&got, "%s: %s\n", f.Name, f.Value)
	}
	const want = `state: online for 3h, since 2026-11-28 09:00:00 UTC
detail: no GPU
connection: 3 of boot b3f1
labels: line=2, site=berlin
machine: 8aa3a67914c853eb
agent: v1
runtime: 1.30
groups: @all, @gate
verbs: mode
power mode: 15W of MAXN (takes a reboot), 15W
family: stock, sha256:0f
profile: measured 2026-11-01 00:00:00 UTC by cpu on 1 thread, others had 3 % of the CPU
pursues: balanced
reported: version 6, rejected (infeasible): too fast
desired: version 6 of @gate: a top-1 of 0.9
member: m: top-1 80.0 %, p50 1.00 ms, p95 2.00 ms, 5.8 million MACs, 28x28, operating
member: l: top-1 90.0 %, not measured yet, 9.0 million MACs, 32x32
update: locked, yard, sha256:0a, by command r.2: until 02:00
last update: failed (infeasible), the family before is in use again, yard, sha256:0a, by command r.1 at 2026-11-02 00:00:00 UTC: 21 late; 187 of 200 frames agree, 2 would be late, p95 8.25 ms
telemetry: of 2026-11-28 11:59:58 UTC
jobs: 10 received, 1 refused, 2 late, 3 superseded; 4 wait
inference: p95 7.25 ms
processor: 72 % busy, throttled
heat: a 41.5 °C, b 50.0 °C
power: 5.50 W
outbox: 1 message waiting for the link
clock: an operator's is -1250 ms ahead
event: 2026-11-28 11:00:00 UTC  warning switch from l to m: slack [2J (2 of this kind)
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	if got := c.Registry().Whole("nobody").Facts(time.Now()); len(got) != 0 {
		t.Errorf("of nobody: got %v", got)
	}
}

func TestAReleaseIsToldOfBySlotAndDigest(t *testing.T) {
	c := newClient()
	receive(c, yard("cam-1").State(), `{"state":"online","boot_id":"b3f1","conn_seq":1,"ts":"2026-11-28T09:00:00Z"}`)
	receive(c, yard("cam-1").Caps(), `{"versions":{"agent":"1.4.0"},"release":{"version":"1.4.0","digest":"sha256:0c","slot":"b"},
		"update":{"id":"r.2","step":"trial","release":{"version":"1.5.1","digest":"sha256:0b"}},
		"last_update":{"id":"r.1","state":"failed","reason":"internal","rolled_back":true,"detail":"no_link","ts":"2026-11-02T00:00:00Z",
			"release":{"version":"1.5.0","digest":"sha256:0a"}}}`)
	var got strings.Builder
	for _, f := range c.Registry().Whole("cam-1").Facts(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)) {
		if strings.Contains(f.Value, "1.") {
			fmt.Fprintf(&got, "%s: %s\n", f.Name, f.Value)
		}
	}
	const want = `agent: 1.4.0
release: 1.4.0, sha256:0c, in slot b
update: trial, release 1.5.1, sha256:0b, by command r.2
last update: failed (internal), the release before runs again, release 1.5.0, sha256:0a, by command r.1 at 2026-11-02 00:00:00 UTC: no_link
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}
