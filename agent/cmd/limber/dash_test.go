package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestAPageIsServedUntilItIsStopped reads where it is from what is printed.
func TestAPageIsServedUntilItIsStopped(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\nand more\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "nobody may steer from it without --token-file"},
		{[]string{"--token-file", token}, "who has the token may steer from it"},
	} {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		out, printed := io.Pipe()
		code := make(chan int, 1)
		args := append([]string{"dash", "--listen", "127.0.0.1:0", "--broker", mustBroker(t), "--fleet", "yard"}, tt.args...)
		go func() { code <- run(ctx, args, printed, io.Discard) }()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		at := regexp.MustCompile(`http://\S+/`).FindString(line)
		if !strings.Contains(line, tt.says) || !strings.HasPrefix(line, "the page of fleet yard is at "+at) {
			t.Errorf("got %q, want where it is and that %s", line, tt.says)
		}
		page, err := http.Get(at)
		if err != nil {
			t.Fatal(err)
		}
		page.Body.Close()
		if page.StatusCode != http.StatusOK {
			t.Errorf("got %s", page.Status)
		}
		stop()
		if got := <-code; got != exitDone {
			t.Errorf("exit %d", got)
		}
	}
}

func TestAPageThatCannotBeServedSaysWhy(t *testing.T) {
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign")
	if err := os.WriteFile(foreign, []byte("schlüssel-für-den-hof\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	limber(t, "dash", "--token-file", short).complained(t, exitFailed, "--token-file", "6 characters, under 16", "openssl rand")
	limber(t, "dash", "--token-file", foreign).complained(t, exitFailed, "--token-file", "not ASCII", "openssl rand")
	limber(t, "dash", "--token-file", filepath.Join(dir, "none")).complained(t, exitFailed, "--token-file", "no such file")
	limber(t, "dash", "--listen", taken.Addr().String()).complained(t, exitFailed, "page: listen", "in use", "port 0")
	limber(t, "dash", "--host", "https://fleet.example.com/").complained(t, exitUsage, `--host "https://fleet.example.com/"`, "name alone")
}

func TestATokenThatEverybodyReadsIsSaidToBeOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o604: true} {
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if readByAll(file) != want {
			t.Errorf("%04o: got %t", mode, !want)
		}
	}
	if readByAll("") || readByAll(file+"-2") {
		t.Error("others read a file that is not there")
	}
}

func TestWhoElseReachesAPageIsKnown(t *testing.T) {
	for listen, want := range map[string]bool{"127.0.0.1:8080": true, "localhost:8080": true, "[::1]:80": true, "0.0.0.0:8080": false,
		":8080": false, "192.0.2.1:80": false, "[::]:80": false, "fleet.example.com:80": false} {
		if onThisComputer(listen) != want {
			t.Errorf("%s: got %t", listen, !want)
		}
	}
}
