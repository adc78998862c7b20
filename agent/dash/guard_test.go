package dash

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent/wire"
)

// serverFor is one without a broker, which every request that passes finds to be down.
func serverFor(tb testing.TB, cfg Config) http.Handler {
	tb.Helper()
	s, err := assemble(cfg, discard())
	if err != nil {
		tb.Fatal(err)
	}
	return s.handler()
}

// post is a request that the page makes, but for what is changed of it.
func post(path, body string, change func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	r.Header.Set("Origin", "http://127.0.0.1:8080")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+secret)
	change(r)
	return r
}

func ask(h http.Handler, r *http.Request) (status int, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func header(key, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(key, value) }
}

func host(name string) func(*http.Request) {
	return func(r *http.Request) {
		r.Host = name
		r.Header.Set("Origin", "http://"+name)
	}
}

func TestOnlyThePageOfThisServerSteersAndOnlyWithItsToken(t *testing.T) {
	cfg := config("127.0.0.1:1")
	cfg.Hosts = []string{"fleet.example.com"}
	h := serverFor(t, cfg)
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		status int
		says   string
	}{
		{"the page", func(*http.Request) {}, 503, "no connection"},
		{"a program, which has no origin", func(r *http.Request) { r.Header.Del("Origin"); r.Header.Del("Sec-Fetch-Site") }, 503, ""},
		{"localhost", host("localhost:8080"), 503, ""},
		{"a name that it was given", host("Fleet.example.com"), 503, ""},
		{"behind a proxy with TLS", func(r *http.Request) {
			host("fleet.example.com")(r)
			r.Header.Set("Origin", "https://fleet.example.com")
		}, 503, ""},
		{"an address of version 6", host("[::1]:8080"), 503, ""},
		{"no token", func(r *http.Request) { r.Header.Del("Authorization") }, 401, "--token-file"},
		{"a wrong token", header("Authorization", "Bearer "+secret+"0"), 401, "--token-file"},
		{"a token's beginning", header("Authorization", "Bearer "+secret[:8]), 401, ""},
		{"the token as a password", header("Authorization", "Basic "+secret), 401, ""},
		{"another page", header("Origin", "http://evil.example"), 403, "another web page"},
		{"another port of this computer", header("Origin", "http://127.0.0.1:3000"), 403, ""},
		{"a page without an origin", header("Origin", "null"), 403, ""},
		{"two origins", func(r *http.Request) { r.Header.Add("Origin", "http://evil.example") }, 403, ""},
		{"a page of another site", header("Sec-Fetch-Site", "cross-site"), 403, ""},
		{"a page of another host of the site", header("Sec-Fetch-Site", "same-site"), 403, ""},
		{"typed into a browser", header("Sec-Fetch-Site", "none"), 403, ""},
		{"a name that was made to point here", host("evil.example:8080"), 421, "--host"},
		{"no name", func(r *http.Request) { r.Host = "" }, 421, ""},
		{"what a form sends", header("Content-Type", "text/plain"), 415, "application/json"},
		{"no type", func(r *http.Request) { r.Header.Del("Content-Type") }, 415, ""},
		{"reading what steers", func(r *http.Request) { r.Method = http.MethodGet }, 404, ""},
		{"another method", func(r *http.Request) { r.Method = http.MethodPut }, 405, ""},
	} {
		for _, path := range []string{"/api/devices/cam-1/mode", "/api/rollouts/night/pause"} {
			body := `{"mode":"balanced"}`
			if strings.Contains(path, "rollouts") {
				body = "{}"
			}
			if status, says := ask(h, post(path, body, tt.change)); status != tt.status || !strings.Contains(says, tt.says) {
				t.Errorf("%s, %s: got %d %s; want %d %s", tt.name, path, status, says, tt.status, tt.says)
			}
		}
	}
}

func TestWithoutATokenFileNobodySteers(t *testing.T) {
	cfg := config("127.0.0.1:1")
	cfg.Token = ""
	h := serverFor(t, cfg)
	for _, path := range []string{"/api/devices/cam-1/mode", "/api/devices/cam-1/goal", "/api/rollouts/night/abort", "/api/steer", "/api/other"} {
		for name, change := range map[string]func(*http.Request){
			"any token":    func(*http.Request) {},
			"none":         func(r *http.Request) { r.Header.Del("Authorization") },
			"an empty one": header("Authorization", "Bearer "),
		} {
			if status, says := ask(h, post(path, "{}", change)); status != 403 || !strings.Contains(says, "--token-file") {
				t.Errorf("%s, %s: got %d %s", path, name, status, says)
			}
		}
	}
}

func TestOthersDoNotReadTheStreams(t *testing.T) {
	h := serverFor(t, config("127.0.0.1:1"))
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"a name that was made to point here", func(r *http.Request) { r.Host = "evil.example" }, 421},
		{"another page", header("Origin", "http://evil.example"), 403},
		{"another site", header("Sec-Fetch-Site", "cross-site"), 403},
		{"the page, with a query that is wrong", header("Sec-Fetch-Site", "same-origin"), 400},
		{"typed into a browser", header("Sec-Fetch-Site", "none"), 400},
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/events?to=-1", nil)
		r.Host = "127.0.0.1:8080"
		tt.change(r)
		if status, says := ask(h, r); status != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, status, says, tt.status)
		}
	}
}

func TestATokenIsJudgedBeforeItIsUsed(t *testing.T) {
	h := serverFor(t, config("127.0.0.1:1"))
	if status, says := ask(h, post("/api/steer", "{}", func(*http.Request) {})); status != 200 || says != `{"state":"succeeded"}`+"\n" {
		t.Errorf("got %d %s", status, says)
	}
	if status, _ := ask(h, post("/api/steer", "{}", header("Authorization", "Bearer x"))); status != 401 {
		t.Errorf("a wrong one: got %d", status)
	}
}

func TestWhatNoDeviceCouldDoIsNotSent(t *testing.T) {
	h := serverFor(t, config("127.0.0.1:1"))
	for _, tt := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"/api/devices/cam-1/mode", `{"goal":{"min_top1":0.8}}`, 400, "goal: the verb mode takes none"},
		{"/api/devices/cam-1/goal", `{"mode":"balanced"}`, 400, "mode: the verb goal takes none"},
		{"/api/devices/cam-1/goal", `{"goal":{}}`, 400, "the goal is empty"},
		{"/api/devices/cam-1/goal", `{"goal":{"min_top1":8}}`, 400, "min_top1"},
		{"/api/devices/cam-1/mode", `{"mode":"a","mode":"b"}`, 400, "duplicate key"},
		{"/api/devices/cam-1/mode", `{"mode":`, 400, "the body cannot be read"},
		{"/api/devices/cam-1/mode", ``, 400, "the body cannot be read"},
		{"/api/devices/cam-1/mode", strings.Repeat(" ", wire.MaxControl+1), 400, "more than"},
		{"/api/devices/@all/mode", `{"mode":"balanced"}`, 404, "of a device"},
		{"/api/devices/a%2Fb/mode", `{"mode":"balanced"}`, 404, "of a device"},
		{"/api/devices/cam-1/power", `{"mode":"balanced"}`, 404, "of a device"},
		{"/api/rollouts/night/start", `{}`, 404, "of a rollout"},
		{"/api/rollouts/n%20t/pause", `{}`, 404, "of a rollout"},
		{"/api/rollouts/night/pause", `{"rollback":true}`, 400, "abort alone"},
		{"/api/rollouts/night/pause", `[]`, 400, "the body cannot be read"},
	} {
		if status, says := ask(h, post(tt.path, tt.body, func(*http.Request) {})); status != tt.status || !strings.Contains(says, tt.says) {
			t.Errorf("%s %.40s: got %d %s; want %d %s", tt.path, tt.body, status, says, tt.status, tt.says)
		}
	}
}

func TestThePageIsServedSoThatNothingForeignRuns(t *testing.T) {
	h := serverFor(t, config("127.0.0.1:1"))
	get := func(path string, change func(*http.Request)) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "localhost:8080"
		change(r)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	w := get("/", func(*http.Request) {})
	policy := w.Header().Get("Content-Security-Policy")
	if w.Code != 200 || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") ||
		!strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || w.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	if again := get("/", header("If-None-Match", w.Header().Get("ETag"))); again.Code != 304 || again.Body.Len() > 0 {
		t.Errorf("of the same: got %d, %d bytes", again.Code, again.Body.Len())
	}
	if w := get("/", func(r *http.Request) { r.Host = "evil.example" }); w.Code != 421 {
		t.Errorf("by a name that was made to point here: got %d", w.Code)
	}
	for _, path := range []string{"/nothing", "/assets", "/../dash.go", "/web/dist/index.html", "/api/devices/cam-1/mode"} {
		if w := get(path, func(*http.Request) {}); w.Code != 404 && w.Code != 307 && w.Code != 301 {
			t.Errorf("%s: got %d", path, w.Code)
		}
	}
}

func TestFilesWhoseNamesChangeWithThemAreKept(t *testing.T) {
	p := &page{map[string]file{"/assets/a-1.js": {body: "1", kind: kindOf("a-1.js"), tag: `"1"`, lasts: true}}}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/assets/a-1.js", nil))
	if !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("got %v", w.Header())
	}
}

// FuzzQuery looks for a query that makes a window which is none, or ends the server.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "from=0&to=60", "where=state%3Donline&only=lost", "where=a,b=c", "device=cam-1&rollouts=1", "rollout=night&from=7&to=9",
		"from=-1", "to=501", "from=%", "to=1&to=2", "only=all"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			return
		}
		if q.from < 0 || q.to < q.from || q.to-q.from > windowMost {
			t.Errorf("%q makes a window from %d to %d", raw, q.from, q.to)
		}
		if q.device != "" && !wire.ValidName(q.device) || q.rollout != "" && !wire.ValidName(q.rollout) {
			t.Errorf("%q makes %q, %q", raw, q.device, q.rollout)
		}
	})
}

// FuzzBody looks for a body that asks for what the path does not.
func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"mode":"balanced"}`, `{"goal":{"min_top1":0.8}}`, `{"goal":{"deadline_ms":1e999}}`, `{"rollback":true}`, "[]", "", "{"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := readAim(bytes.NewReader(b), wire.VerbMode); err == nil && (c.Mode == "" || c.Goal != nil || c.Verb() != wire.VerbMode) {
			t.Errorf("%q became %+v", b, c)
		}
		if c, err := readAim(bytes.NewReader(b), wire.VerbGoal); err == nil && (c.Goal == nil || c.Goal.Check() != nil || c.Verb() != wire.VerbGoal) {
			t.Errorf("%q became %+v", b, c)
		}
		var a actBody
		_ = readBody(bytes.NewReader(b), &a)
	})
}

// broken is a body whose sender went away.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestABodyThatBreaksOffIsSaidToBeOne(t *testing.T) {
	if _, err := readAim(broken{}, wire.VerbMode); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}
