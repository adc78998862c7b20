package dash

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/fleet"
	"github.com/limber-edge/limber/agent/wire"
)

// TestAtMostFourMessagesASecondWhateverTheFleet has 1,000 devices say something ten times a
// second, all of them together, to a reader who rests now and then.
func TestAtMostFourMessagesASecondWhateverTheFleet(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for i := range 1000 {
			r.online(fmt.Sprintf("cam-%04d", i))
		}
		s := r.open("from=0&to=60&device=cam-0000")
		over := s.collect(350 * time.Millisecond)
		for n := range 40 {
			for i := range 1000 {
				r.measures(fmt.Sprintf("cam-%04d", i), n, fmt.Sprintf(`,"jobs":%d,"queue":%d`, n, n))
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		s.close()
		<-over
		for i := range s.all {
			if i > 0 && s.all[i].at.Sub(s.all[i-1].at) < time.Second/4 {
				t.Fatalf("two messages came within %v", s.all[i].at.Sub(s.all[i-1].at))
			}
		}
		if n := len(s.all); n < 12 || n > 21 {
			t.Errorf("%d messages came in 5 s, want about four a second", n)
		}
		shown := map[string]int{}
		for _, m := range s.all {
			for name, tile := range m.Tiles {
				shown[name] = tile.Queue
			}
		}
		for i := range 60 {
			if name := fmt.Sprintf("cam-%04d", i); shown[name] != 39 {
				t.Errorf("%s: got %d, want what was said last", name, shown[name])
			}
		}
	})
}

func TestWhatIsNotOnTheScreenIsNotTold(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for i := range 10 {
			r.online(fmt.Sprintf("cam-%d", i))
		}
		r.says(at("cam-4").Labels(), `{"labels":{"site":"berlin"}}`)
		s := r.open("from=2&to=4")
		defer s.close()
		first := s.next()
		if !first.First || first.Fleet != yard || !slices.Equal(*first.Order, []string{"cam-2", "cam-3"}) ||
			len(first.Tiles) != 2 || first.Device != nil || first.Rollouts != nil {
			t.Errorf("got %+v, want the two in the window", first)
		}
		if want := (counts{Devices: 10, Fit: 10, Online: 10}); *first.Counts != want {
			t.Errorf("got %+v, want %+v", *first.Counts, want)
		}
		r.measures("cam-7", 1, `,"queue":7`)
		r.says(at("cam-8").Event("info"), `{"kind":"gap"}`)
		r.says(at(wire.Controller).Rollout("night"), `{"id":"night","state":"running"}`)
		time.Sleep(time.Second)
		r.measures("cam-3", 1, `,"queue":3`)
		if m := s.next(); m.First || m.Order != nil || m.Counts != nil || len(m.Tiles) != 1 || m.Tiles["cam-3"].Queue != 3 {
			t.Errorf("got %+v, want cam-3 and nothing else", m)
		}
		r.says(at("cam-9").State(), `{"state":"lost"}`)
		m := s.next()
		if want := (counts{Devices: 10, Fit: 10, Lost: 1, Online: 9}); *m.Counts != want ||
			!slices.Equal(*m.Order, []string{"cam-1", "cam-2"}) || len(m.Tiles) != 1 || m.Tiles["cam-1"] == nil {
			t.Errorf("got %+v, want cam-1 to have come in", m)
		}
		r.says(at("cam-9").State(), `{"state":"online"}`)
		if m := s.next(); len(m.Tiles) != 1 || m.Tiles["cam-3"] == nil || m.Tiles["cam-3"].Queue != 3 {
			t.Errorf("got %+v, want cam-3 again, whole: the page has dropped it", m)
		}
	})
}

func TestWhatIsToldAnewIsNoNews(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		s := r.open("from=0&to=9&device=cam-1")
		defer s.close()
		s.next()
		r.online("cam-1") // as after the link broke
		time.Sleep(time.Minute)
		r.says(at("cam-1").Reported(), `{"mode":"balanced","member":"m"}`)
		m := s.next()
		if tile := m.Tiles["cam-1"]; tile == nil || tile.Mode != "balanced" || m.Device.Aim.Mode != "balanced" ||
			m.Device.Front != nil || m.Device.Commands != nil || m.Device.Known != nil {
			t.Errorf("got %+v, %+v; want the report and nothing before it", m, m.Device)
		}
	})
}

func TestAChipNarrowsTheListAndNotTheCounts(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for i := range 6 {
			r.online(fmt.Sprintf("cam-%d", i))
		}
		r.says(at("cam-1").State(), `{"state":"lost"}`)
		r.says(at("cam-2").State(), `{"state":"online","detail":"no camera"}`)
		r.says(at("cam-3").State(), `{"state":"lost"}`)
		r.says(at("cam-4").Caps(), `{"update":{"step":"locked","family":{"name":"yard"}}}`)
		r.says(at("cam-5").State(), `{"state":"offline"}`)
		for _, tt := range []struct {
			query string
			order []string
		}{
			{"", []string{"cam-1", "cam-2", "cam-3", "cam-4", "cam-5", "cam-0"}},
			{"&only=lost", []string{"cam-1", "cam-3"}},
			{"&only=fault", []string{"cam-2"}},
			{"&only=updating", []string{"cam-4"}},
			{"&only=offline", []string{"cam-5"}},
			{"&only=online", []string{"cam-0"}},
		} {
			s := r.open("from=0&to=9" + tt.query)
			m := s.next()
			if want := (counts{6, 6, 2, 1, 1, 1, 1, false}); *m.Counts != want || !slices.Equal(*m.Order, tt.order) {
				t.Errorf("%s: got %+v, %v; want %v", tt.query, *m.Counts, *m.Order, tt.order)
			}
			s.close()
		}
	})
}

// TestASlowReaderGetsTheNewest leaves a stream unread while the device says much.
func TestASlowReaderGetsTheNewest(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		s := r.open("from=0&to=9")
		defer s.close()
		s.next()
		for n := range 50 {
			r.measures("cam-1", n, fmt.Sprintf(`,"queue":%d`, n))
			time.Sleep(time.Second)
		}
		stale := 0
		for {
			m := s.next()
			if tile := m.Tiles["cam-1"]; tile != nil && tile.Queue == 49 {
				break
			}
			stale++
		}
		if stale > 2 {
			t.Errorf("%d messages of before came first, want no more than were under way", stale)
		}
	})
}

func TestAReaderThatTakesNothingIsLeftAndAStreamWithoutNewsLasts(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		idle, quiet := r.open("from=0&to=9"), r.open("from=0&to=9&where=device%3Dnobody")
		defer quiet.close()
		quiet.next()
		over := quiet.collect(0)
		for n := range 180 {
			r.measures("cam-1", n, fmt.Sprintf(`,"queue":%d`, n))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := len(r.streams); n != 1 {
			t.Errorf("%d streams are open, want the one that is read", n)
		}
		for {
			if _, err := idle.take(); err != nil {
				break
			}
		}
		select {
		case <-over:
			t.Errorf("the stream without news has ended")
		default:
		}
	})
}

func TestScreensAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var all []*screen
		for range streamsMost {
			all = append(all, r.open("to=0"))
		}
		got, err := r.client().Get("http://127.0.0.1:8080/api/events?to=0")
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		if got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
			t.Errorf("got %s, want the one too many told to wait", got.Status)
		}
		for _, s := range all {
			s.close()
		}
		synctest.Wait()
		r.open("to=0").close()
	})
}

// TestWhoWasDeniedMayTryAgain has a broker that allows some things and not others.
func TestWhoWasDeniedMayTryAgain(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s := r.open("")
		defer s.close()
		s.next()
		begin := time.Now()
		r.denied.Store(&begin)
		if m := s.next(); m.Steer != steerDenied {
			t.Errorf("got %q, want that it is denied", m.Steer)
		}
		if m := s.next(); m.Steer != steerToken || time.Since(begin) < denialTime {
			t.Errorf("got %q after %v, want the token after %v", m.Steer, time.Since(begin), denialTime)
		}
	})
}

func TestAnExpressionThatIsWrongIsToldWithItsPlace(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		s := r.open(where("state=online,stat=lost") + "&from=0&to=9")
		defer s.close()
		m := s.next()
		if m.WhereError == nil || m.WhereError.At != len("state=online,") || m.WhereError.Text == "" || m.Order != nil ||
			m.Counts != nil {
			t.Errorf("got %+v, want what is wrong at the 14th byte", m)
		}
	})
}

func TestADeviceThatIsOpenedShowsWhatWasBefore(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		r.says(at("cam-1").Caps(), `{"modes":["balanced"],"members":[{"name":"s","top1":0.7,"mmacs":4,"resolution":24,"p50_ms":1,"p95_ms":2},{"name":"l","top1":0.8}]}`)
		r.says(at("cam-1").Reported(), `{"mode":"balanced","member":"l"}`)
		for n := range 3 {
			r.measures("cam-1", 5*n, fmt.Sprintf(`,"jobs":%d,"missed":%d,"member":"l","p95_ms":%d,"temps_c":{"a":40,"b":41.5}`, 100*n, 10*n, n))
			synctest.Wait()
		}
		r.says(at("cam-1").Event("info"), `{"kind":"switch","from":"s","member":"l","detail":"the queue is empty","ts":"2026-11-28T12:00:00Z"}`)
		s := r.open("device=cam-1")
		defer s.close()
		d := s.next().Device
		if !*d.Known || d.Tile.At != 2 || d.Tile.Members != 2 || *d.Tile.JobsS != 20 || *d.Tile.Late != 0.1 || *d.Tile.TempC != 41.5 {
			t.Errorf("got %+v, want what is known of it", d.Tile)
		}
		if f := *d.Front; len(f) != 2 || f[0].Operating || !f[1].Operating || *f[0].P95MS != 2 || f[1].P95MS != nil {
			t.Errorf("got %+v, want the front with its operating point", f)
		}
		if p := d.Series; len(p.T) != 3 || p.P95MS[2] != 2 || !math.IsNaN(float64(p.P50MS[2])) || p.Late[1] != 0.1 || p.JobsS[2] != 20 || p.Members[0] != "l" {
			t.Errorf("got %+v, want three points", p)
		}
		if e := d.Events; len(e) != 1 || e[0].From != "s" || e[0].Member != "l" || e[0].Detail != "the queue is empty" {
			t.Errorf("got %+v, want the switch and its reason", e)
		}
		r.measures("cam-1", 15, `,"jobs":300,"decisions":[{"ts":"2026-11-28T12:00:02Z","member":"l"},{"ts":"2026-11-28T12:00:01Z","member":"s"}]`)
		d = s.next().Device
		if len(d.Series.T) != 1 || len(d.Events) != 0 || len(d.Decisions) != 2 || d.Decisions[1].Member != "l" {
			t.Errorf("got %+v, want one point more, and the decisions, oldest first", d)
		}
		r.measures("cam-1", 20, `,"jobs":300,"decisions":[{"ts":"2026-11-28T12:00:03Z","member":"m"},{"ts":"2026-11-28T12:00:02Z","member":"l"}]`)
		if d = s.next().Device; len(d.Decisions) != 1 || d.Decisions[0].Member != "m" {
			t.Errorf("got %+v, want the new decision", d.Decisions)
		}
	})
}

// TestWhatADeviceSaysTakesNoMoreOfTheHistoryThanItsShare has one say all that a message can hold.
func TestWhatADeviceSaysTakesNoMoreOfTheHistoryThanItsShare(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		long := strings.Repeat("x", wire.MaxControl-100)
		for n := range pointsMost {
			r.measures("cam-1", n%60, fmt.Sprintf(`,"member":"%d%s"`, n, long))
			r.says(at("cam-1").Ack("mode", fmt.Sprint(n)), `{"state":"`+long+`"}`)
			r.says(at("cam-1").Ack("goal", fmt.Sprint(n)), `{"state":"failed","reason":"`+long+`"}`)
			synctest.Wait()
		}
		is := r.history.tracks["cam-1"]
		b, err := json.Marshal(is.commands)
		size := len(b)
		for _, p := range is.points {
			size += len(p.member)
		}
		if err != nil || size > 25<<10 || len(is.points) != pointsMost {
			t.Errorf("%d bytes of words beside %d points, %v", size, len(is.points), err)
		}
	})
}

func TestDecisionsAreToldAlsoAfterADevicesClockWentBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		r.measures("cam-1", 1, `,"decisions":[{"ts":"2040-01-01T00:00:00Z","member":"s"}]`)
		s := r.open("device=cam-1")
		defer s.close()
		if d := s.next().Device.Decisions; len(d) != 1 || d[0].Options == nil {
			t.Errorf("got %+v, want one, with a list of options that is empty", d)
		}
		r.measures("cam-1", 2, `,"decisions":[{"ts":"2026-11-28T12:00:02Z","member":"m"},{"ts":"2040-01-01T00:00:00Z","member":"s"}]`)
		if d := s.next().Device.Decisions; len(d) != 1 || d[0].Member != "m" {
			t.Errorf("got %+v, want the one that is new", d)
		}
	})
}

func TestAFigureThatCannotBeIsUnknownAndHidesNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		r.measures("cam-1", 1, `,"p95_ms":1e308,"temps_c":{"cpu":-1.7e308},"queue":3,"decisions":[{"member":"m","options":[
			{"member":"m","predicted_ms":1e-300},{"member":"l","predicted_ms":4},{"member":"s","predicted_ms":1e308}]}]`)
		r.says(at("cam-1").Caps(), `{"members":[{"name":"m","top1":0.7,"p50_ms":1e308,"p95_ms":1e-300},{"name":"l","top1":0.8,"p50_ms":3},
			{"name":"s","top1":1e306}]}`)
		s := r.open("to=9&device=cam-1")
		defer s.close()
		m := s.next()
		if is := m.Tiles["cam-1"]; is == nil || is.P95MS != nil || is.TempC != nil || is.Queue != 3 {
			t.Errorf("got %+v, want the queue alone", is)
		}
		if is := *m.Device.Front; len(is) != 2 || is[0].P50MS != nil || is[0].P95MS != nil || *is[1].P50MS != 3 {
			t.Errorf("got %+v, want two members, one of which was measured", is)
		}
		if is := m.Device.Decisions[0].Options; len(is) != 1 || is[0].Member != "l" {
			t.Errorf("got %+v, want the option that can be", is)
		}
	})
}

func TestADeviceThatNobodyKnowsIsSaidToBeUnknown(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s := r.open("device=cam-1")
		defer s.close()
		if d := s.next().Device; d == nil || *d.Known || d.Name != "cam-1" {
			t.Errorf("got %+v, want it unknown", d)
		}
		r.online("cam-1")
		if d := s.next().Device; !*d.Known {
			t.Errorf("got %+v, want it known", d)
		}
	})
}

func TestCommandsAreToldWithWhatBecameOfThem(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		s := r.open("device=cam-1")
		defer s.close()
		s.next()
		ack := func(verb, id, rest string) {
			r.says(at("cam-1").Ack(verb, id), `{"ts":"2026-11-28T12:00:00Z",`+rest+`}`)
		}
		for _, tt := range []struct {
			name string
			says func()
			want command
		}{
			{"given", func() { r.says(at("cam-1").Cmd("mode", "a"), `{"mode":"balanced","ttl_ms":5}`) },
				command{ID: "a", Verb: "mode", Asked: "balanced"}},
			{"answered", func() { ack("mode", "a", `"verb":"mode","state":"rejected","reason":"invalid","detail":"no"`) },
				command{ID: "a", Verb: "mode", Asked: "balanced", State: "rejected", Reason: "invalid", Detail: "no"}},
			{"of a group", func() {
				r.says(at("@all").Cmd("goal", "b"), `{"goal":{"min_top1":0.8},"ttl_ms":5}`)
				ack("goal", "b", `"verb":"goal","state":"succeeded"`)
			}, command{ID: "b", Verb: "goal", Asked: "a top-1 of 0.8", State: "succeeded"}},
			{"not heard", func() {
				ack("family", "c", `"verb":"family","state":"executing","progress":{"step":"fetching","done":1048576,"of":2097152}`)
			}, command{ID: "c", Verb: "family", State: "executing", Detail: "fetching, 1.0 of 2.0 MiB"}},
		} {
			tt.says()
			all := *s.next().Device.Commands
			got := *all[len(all)-1]
			if got.TS.IsZero() {
				t.Errorf("%s: got no time", tt.name)
			}
			if got.TS = (wire.Time{}); got != tt.want {
				t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
			}
		}
		for i := range 3 * commandsMost {
			ack("mode", fmt.Sprint(i), `"verb":"mode","state":"succeeded"`)
		}
		if all := *s.next().Device.Commands; len(all) != commandsMost || all[commandsMost-1].ID != "23" {
			t.Errorf("got %d commands, want the last %d", len(all), commandsMost)
		}
	})
}

func TestALongDetailOfACommandIsCutWhereALetterEnds(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online("cam-1")
		synctest.Wait()
		r.says(at("cam-1").Ack("mode", "a"), `{"state":"failed","detail":"x`+strings.Repeat("ü", detailMost)+`"}`)
		s := r.open("device=cam-1")
		defer s.close()
		want := "x" + strings.Repeat("ü", (detailMost-1)/2) + "..."
		if all := *s.next().Device.Commands; len(all) != 1 || all[0].Detail != want {
			t.Errorf("got %+v, want %s", all, want)
		}
	})
}

func TestRolloutsAreToldAsFarAsTheyAreOnTheScreen(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		tell := func(id, rest string) {
			r.says(at(wire.Controller).Rollout(id), fmt.Sprintf(`{"id":%q,"ts":"2026-11-28T12:00:00Z",%s}`, id, rest))
		}
		devices := func(third string) string {
			return `"state":"running","phases":[{"size":3,"state":"running","counts":{}}],"devices":[{"device":"cam-1","state":"succeeded"},{"device":"cam-2","state":"pending"},{"device":"cam-3","state":"` + third + `"}]`
		}
		tell("night", devices("pending"))
		tell("day", `"state":"done"`)
		list, one := r.open("rollouts=1"), r.open("rollout=night&from=0&to=2")
		defer list.close()
		defer one.close()
		l := list.next().Rollouts
		if !slices.Equal(*l.Order, []string{"night", "day"}) || len(l.Docs) != 2 || l.Docs["night"].Devices != nil || *l.Trouble == "" {
			t.Errorf("got %+v, want both without their devices, and that no controller is there", l)
		}
		is := one.next().Rollout
		if !*is.Known || *is.Total != 3 || is.Doc.State != "running" || is.Doc.Devices != nil ||
			!slices.Equal(*is.Order, []string{"cam-2", "cam-3"}) || len(is.Devices) != 2 {
			t.Errorf("got %+v, want the two that are to be looked at", is)
		}
		tell("night", devices("failed"))
		is = one.next().Rollout
		if is.Doc != nil || is.Known != nil || !slices.Equal(*is.Order, []string{"cam-3", "cam-2"}) || len(is.Devices) != 1 || is.Devices["cam-3"].State != "failed" {
			t.Errorf("got %+v, want cam-3, which comes first now", is)
		}
		tell("day", `"state":"failed"`)
		if l := list.next().Rollouts; l.Order != nil || l.Trouble != nil || len(l.Docs) != 1 || l.Docs["day"].State != "failed" {
			t.Errorf("got %+v, want the one that changed", l)
		}
		r.says(at(wire.Controller).Rollout("night"), "")
		if is := one.next().Rollout; *is.Known || is.Doc != nil || len(*is.Order) != 0 {
			t.Errorf("got %+v, want that it is not kept any more", is)
		}
	})
}

// TestARolloutIsLookedAtOnceForAllScreens has one document more for each look.
func TestARolloutIsLookedAtOnceForAllScreens(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		seen := map[*picture]bool{}
		const looks = 100
		for n := range looks {
			r.says(at(wire.Controller).Rollout("night"), fmt.Sprintf(`{"id":"night","state":"running","phase":%d}`, n))
			seen[r.pictures.of(r.remote, "night")] = true
			time.Sleep(time.Second / looks)
		}
		if len(seen) > int(time.Second/pace) {
			t.Errorf("%d pictures in a second, want one each %v", len(seen), pace)
		}
		time.Sleep(pace)
		if is := r.pictures.of(r.remote, "night"); is.doc.Phase != looks-1 || is != r.pictures.of(r.remote, "night") {
			t.Errorf("got phase %d, want the last, once", is.doc.Phase)
		}
		r.pictures.of(r.remote, "another")
		if n := len(r.pictures.all); n != 1 {
			t.Errorf("%d pictures are kept, want none of what is not there", n)
		}
	})
}

func TestWhatAComparisonFoundIsToldByDeviceAndByLabel(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for name, site := range map[string]string{"cam-1": "berlin", "cam-2": "berlin", "cam-3": "rome"} {
			r.says(at(name).Labels(), fmt.Sprintf(`{"labels":{"site":%q}}`, site))
		}
		r.says(at(wire.Controller).Rollout("night"), `{"id":"night","state":"running","devices":[
			{"device":"cam-1","state":"succeeded","shadow":{"frames":100,"agreed":90,"agreement":0.9,"p95_ms":4,"missed":1}},
			{"device":"cam-2","state":"running","shadow":{"frames":300,"agreed":300,"agreement":1,"p95_ms":8,"missed":0}},
			{"device":"cam-3","state":"pending"}]}`)
		s := r.open("rollout=night&from=0&to=1")
		defer s.close()
		is := s.next().Rollout
		if len(is.Devices) != 1 || is.Devices["cam-2"].Shadow.Agreed != 300 {
			t.Errorf("got %+v, want the one that is at it, with what it found", is.Devices)
		}
		if by := *is.ByLabel; len(by) != 1 || by[0].Value != "berlin" || by[0].Devices != 2 || by[0].Frames != 400 ||
			by[0].Agreed != 390 || *by[0].P95MS != 7 {
			t.Errorf("got %+v, want berlin's two together, though one is not on the screen", by)
		}
	})
}

func TestAFleetForWhichThereIsNoRoomIsSaidToBeMore(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for i := range fleet.MaxDevices {
			r.online(fmt.Sprintf("cam-%05d", i))
		}
		s := r.open("from=0&to=9")
		defer s.close()
		if m := s.next(); m.Counts.Fit != fleet.MaxDevices || m.Counts.More || len(m.Tiles) != 9 {
			t.Errorf("got %+v", m.Counts)
		}
		r.online("another")
		if m := s.next(); m.Counts.Fit != fleet.MaxDevices || !m.Counts.More {
			t.Errorf("got %+v, want that these are not all", m.Counts)
		}
	})
}

func TestTheHistoryIsBounded(t *testing.T) {
	h := newHistory()
	d := fleet.Device{Name: "cam-1", State: &wire.State{State: wire.Online}}
	for n := range 3 * pointsMost {
		d.Telemetry = &wire.Telemetry{Queue: n, Member: fmt.Sprint("m", n), TS: wire.At(time.Unix(int64(n), 0))}
		h.take(d)
		h.take(d)
	}
	s, count := h.since("cam-1", 0)
	if len(s.T) != pointsMost || s.Queue[0] != 2*pointsMost || s.Queue[pointsMost-1] != 3*pointsMost-1 || count != 3*pointsMost {
		t.Errorf("got %d points from %v, want the last %d", len(s.T), s.Queue[0], pointsMost)
	}
	if got := s.Members[pointsMost-1]; got != fmt.Sprint("m", 3*pointsMost-1) {
		t.Errorf("the last member is %q, want its name, however many there were before", got)
	}
	if s, _ := h.since("cam-1", count-2); len(s.T) != 2 || s.Queue[1] != 3*pointsMost-1 {
		t.Errorf("got %+v, want the last two", s)
	}
	for i := range fleet.MaxDevices + 5 {
		h.take(fleet.Device{Name: fmt.Sprint(i), State: d.State})
	}
	if n := len(h.tracks); n != fleet.MaxDevices {
		t.Errorf("%d devices are kept, want %d", n, fleet.MaxDevices)
	}
	h.take(fleet.Device{Name: "cam-1"})
	if s, count := h.since("cam-1", 5); s != nil || count != 5 {
		t.Errorf("got %+v of one that was forgotten", s)
	}
	for i := range 3 * ordersMost {
		h.hear(wire.Topic{Address: at("@all"), Kind: wire.KindCmd, Verb: "mode", ID: fmt.Sprint(i)}, []byte(`{"mode":"m"}`), time.Now())
	}
	if n := len(h.orders); n != ordersMost {
		t.Errorf("%d commands to groups are kept, want %d", n, ordersMost)
	}
}

// TestAThousandDevicesCostAScreenAFewKilobytesASecond has each say what it measured every
// five seconds, as devices do.
func TestAThousandDevicesCostAScreenAFewKilobytesASecond(t *testing.T) {
	full, err := os.ReadFile("../wire/testdata/telemetry-full.json")
	if err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T, r *rig) {
		for i := range 1000 {
			r.online(fmt.Sprintf("cam-%04d", i))
		}
		s := r.open("from=0&to=60&device=cam-0000")
		s.next()
		over := s.collect(0)
		const seconds = 20
		for n := range seconds * 10 {
			for i := n % 50; i < 1000; i += 50 {
				ts := time.Date(2026, 11, 28, 12, 0, n/10, 0, time.UTC).Format(time.RFC3339)
				payload := strings.NewReplacer("2026-01-31T12:00:00.123Z", ts, `"jobs":1000`, fmt.Sprintf(`"jobs":%d`, 1000+7*n),
					`"p95_ms":9`, fmt.Sprintf(`"p95_ms":%d.25`, 9+n%7)).Replace(string(full))
				r.says(at(fmt.Sprintf("cam-%04d", i)).Telemetry(), payload)
			}
			time.Sleep(100 * time.Millisecond)
		}
		s.close()
		<-over
		bytes := 0
		for _, m := range s.all {
			bytes += m.bytes
		}
		if perSecond := bytes / seconds; perSecond < 100 || perSecond > 8<<10 {
			t.Errorf("%d bytes a second", perSecond)
		} else {
			t.Logf("%d bytes a second, in %d messages", perSecond, len(s.all))
		}
	})
}
