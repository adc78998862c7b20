package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limber-edge/limber/agent/config"
)

const secret = "0123456789abcdef-very-secret"

func TestHealthIs503WithASentenceWhileAFaultStands(t *testing.T) {
	d := busy()
	r := serve(t, config.Metrics{}, d)
	if status, text := r.get("/healthz", ""); status != http.StatusOK || text != "ok\n" {
		t.Errorf("got %d %q, want 200 ok", status, text)
	}
	d.snapshot.Fault = errHot
	if status, text := r.get("/healthz", ""); status != http.StatusServiceUnavailable || text != errHot.Error()+"\n" {
		t.Errorf("got %d %q, want 503 and the fault", status, text)
	}
	if status, text := r.get("/metrics", ""); status != http.StatusOK || !strings.Contains(text, "limber_link_up 1\n") {
		t.Errorf("got %d %q, want metrics all the same", status, text)
	}
}

func TestC12_WhoDoesNotKnowTheTokenReadsNothing(t *testing.T) {
	r := serve(t, config.Metrics{TokenFile: tokenFile(t, secret+"\nnot this\n")}, busy())
	for _, path := range []string{"/metrics", "/healthz", "/"} {
		for _, header := range []string{"", "Authorization: Bearer \r\n", "Authorization: " + secret + "\r\n",
			"Authorization: Basic " + secret + "\r\n", "Authorization: Bearer " + secret[1:] + "\r\n",
			"Authorization: Bearer " + secret + "x\r\n", "Authorization: Bearer not this\r\n"} {
			status, text := r.get(path, header)
			if status != http.StatusUnauthorized || strings.Contains(text, "limber_") {
				t.Errorf("%s with %q: got %d %q, want 401", path, header, status, text)
			}
		}
	}
	for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
		if status, _ := r.get("/metrics", "Authorization: "+scheme+" "+secret+"\r\n"); status != http.StatusOK {
			t.Errorf("%s: got %d, want 200", scheme, status)
		}
	}
}

func TestATokenThatChangesCountsAtOnce(t *testing.T) {
	path := tokenFile(t, secret)
	r := serve(t, config.Metrics{TokenFile: path}, busy())
	for _, step := range []struct {
		text     string
		old, new int
	}{
		{"another-secret-of-mine", http.StatusUnauthorized, http.StatusOK},
		{"", http.StatusServiceUnavailable, http.StatusServiceUnavailable}, // being written
		{"short", http.StatusServiceUnavailable, http.StatusServiceUnavailable},
		{secret, http.StatusOK, http.StatusUnauthorized},
	} {
		writeToken(t, path, step.text)
		was, _ := r.get("/metrics", "Authorization: Bearer "+secret+"\r\n")
		is, _ := r.get("/metrics", "Authorization: Bearer another-secret-of-mine\r\n")
		if was != step.old || is != step.new {
			t.Errorf("with %q: got %d for the old and %d for the new, want %d and %d", step.text, was, is, step.old, step.new)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if status, _ := r.get("/metrics", "Authorization: Bearer "+secret+"\r\n"); status != http.StatusServiceUnavailable {
		t.Errorf("without the file: got %d, want 503", status)
	}
}

func TestC11_TheTokenIsNeitherLoggedNorAnswered(t *testing.T) {
	path := tokenFile(t, secret)
	r := serve(t, config.Metrics{TokenFile: path}, busy())
	var said strings.Builder
	for _, given := range []string{secret, secret + "x", ""} {
		for _, path := range []string{"/metrics", "/healthz", "/" + secret[:4]} {
			_, text := r.get(path, "Authorization: Bearer "+given+"\r\n")
			said.WriteString(text)
		}
	}
	writeToken(t, path, secret[:12])
	_, text := r.get("/metrics", "")
	r.get("/metrics", "")
	r.ask("GET /metrics HTTP/1.1\r\nAuthorization: Bearer " + secret + "\r\n\x00\r\n\r\n")
	said.WriteString(text + r.log.String())
	if n := strings.Count(r.log.String(), "metrics are refused"); n != 1 {
		t.Errorf("got %d lines on a token that cannot be read, want one", n)
	}
	for _, part := range []string{secret, secret[:12], secret[4:]} {
		if strings.Contains(said.String(), part) {
			t.Errorf("%q was told", part)
		}
	}
}

func TestC12_ThereIsNothingToReadButTwoPages(t *testing.T) {
	r := serve(t, config.Metrics{}, busy())
	for _, path := range []string{"/", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1",
		"/debug/vars", "/metrics/", "//metrics", "/metrics/../metrics", "/metrics/../../../etc/passwd", "/../etc/passwd",
		"/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/healthz/..", "/healthz%00", "/metrics;x", "/METRICS", "/config",
		"/-/reload", "http://other/x"} {
		if status, text := r.get(path, ""); status != http.StatusNotFound || text != "there are /metrics and /healthz\n" {
			t.Errorf("%s: got %d %q, want 404", path, status, text)
		}
	}
	for _, request := range []string{"GET ../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /metrics HTTP/9.9\r\nHost: x\r\n\r\n", "\x16\x03\x01\x00\x05hello\r\n\r\n", "GET /metrics\r\n\r\n", "\r\n\r\n\r\n", "GET /metrics HTTP/1.1\r\n\r\n"} {
		if status, text := r.ask(request); status == http.StatusOK {
			t.Errorf("%q: got %d %q, want no answer or a refusal", request, status, text)
		}
	}
}

func TestC12_ThereIsOnlyToRead(t *testing.T) {
	r := serve(t, config.Metrics{}, busy())
	for _, tt := range []struct {
		request string
		want    int
	}{
		{"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusOK},
		{"GET /metrics?name[]=limber_link_up HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusOK},
		{"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", http.StatusMethodNotAllowed},
		{"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusMethodNotAllowed},
		{"TRACE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusMethodNotAllowed},
		{"CONNECT /metrics HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusMethodNotAllowed},
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", http.StatusRequestEntityTooLarge},
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", http.StatusRequestEntityTooLarge},
		{"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", http.StatusRequestEntityTooLarge},
	} {
		if status, _ := r.ask(tt.request); status != tt.want {
			t.Errorf("%q: got %d, want %d", tt.request, status, tt.want)
		}
	}
}

func TestC12_AHeaderHas16KiBAtMost(t *testing.T) {
	r := serve(t, config.Metrics{}, busy())
	for size, want := range map[int]int{15 << 10: http.StatusOK, 17 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		if status, _ := r.get("/metrics", "X: "+strings.Repeat("x", size)+"\r\n"); status != want {
			t.Errorf("%d bytes: got %d, want %d", size, status, want)
		}
	}
}

func TestC12_AClientThatSendsItsHeaderByteByByteIsCutAfter5Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, config.Metrics{}, busy())
		c, began := r.dial(), time.Now()
		defer c.Close()
		go io.Copy(io.Discard, c)
		sent := 0
		for request := []byte("GET /metrics HTTP/1.1\r\nX: " + strings.Repeat("x", 100)); sent < 100; sent++ {
			if _, err := c.Write(request[sent : sent+1]); err != nil {
				break
			}
			time.Sleep(300 * time.Millisecond)
		}
		if took := time.Since(began); sent == 100 || took < headerTime || took > headerTime+300*time.Millisecond {
			t.Errorf("got %d bytes in %v, want the connection cut after 5 s", sent, took)
		}
	})
}

func TestC12_AClientThatDoesNotReadItsAnswerIsCutAfter10Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, config.Metrics{}, busy())
		c, began := r.dial(), time.Now()
		defer c.Close()
		if _, err := c.Write([]byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(answerTime + time.Second)
		var one [1]byte
		if n, err := c.Read(one[:]); err == nil {
			t.Errorf("got %q after %v, want the connection cut", one[:n], time.Since(began))
		}
	})
}

func TestC12_ConnectionsThatSayNothingHoldUpOthersFor5Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, config.Metrics{}, busy())
		for range connections {
			defer r.dial().Close()
		}
		began := time.Now()
		if status, _ := r.get("/healthz", ""); status != http.StatusOK || time.Since(began) != headerTime {
			t.Errorf("got %d after %v, want 200 after 5 s", status, time.Since(began))
		}
	})
}

func TestScrapesOnOneConnectionAreAnsweredForTwoMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serve(t, config.Metrics{}, busy()).dial()
		client := http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return c, nil }}}
		defer client.CloseIdleConnections()
		for range 5 {
			answer, err := client.Get("http://device/metrics")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			time.Sleep(time.Minute)
		}
	})
}

func TestAnAddressThatIsTakenIsTriedAgain(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	synctest.Test(t, func(t *testing.T) {
		s := New(config.Metrics{Listen: taken.Addr().String()}, busy(), discard())
		ctx, stop := context.WithCancel(t.Context())
		ended, began := make(chan error, 1), time.Now()
		go func() { ended <- s.Run(ctx) }()
		time.AfterFunc(3*rebind+time.Second, stop)
		if err := <-ended; err != nil || time.Since(began) < 3*rebind {
			t.Errorf("got %v after %v, want the server to try until it is stopped", err, time.Since(began))
		}
	})
}

// What is compared is the whole of both.
func FuzzKnows(f *testing.F) {
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer " + secret, "bearer  " + secret + " ", "Basic x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if knows(header, secret) != (len(header) > 6 && strings.EqualFold(header[:7], "bearer ") &&
			strings.TrimSpace(header[7:]) == secret) {
			t.Errorf("%q: got %v", header, knows(header, secret))
		}
	})
}
