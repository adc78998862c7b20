package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limber-edge/limber/broker-config/brokertest"
)

// bashCompletion is what Debian's bash-completion installs.
const bashCompletion = "/usr/share/bash-completion/bash_completion"

// TestBashCompletesAsItIsInstalled types into a real one, which loads the script of the
// package when it is wanted.
func TestBashCompletesAsItIsInstalled(t *testing.T) {
	if _, err := os.Stat(bashCompletion); err != nil {
		t.Skip("bash-completion is not installed (Debian: bash-completion)")
	}
	broker := mustBroker(t)
	mustRetain(t, broker, "cam-17", "state",
		`{"schema":1,"state":"online","boot_id":"b","conn_seq":1,"ts":"2026-01-31T12:00:00Z"}`)
	caps, err := os.ReadFile("../../wire/testdata/caps-full.json")
	if err != nil {
		t.Fatal(err)
	}
	mustRetain(t, broker, "cam-17", "caps", string(caps))
	at := " --broker mqtt://" + broker + " "
	got := typed(t, "limber fleet mo\tX", "limber fleet show"+at+"ca\tX", "limber fleet mode"+at+"@li\tX Y Z",
		"limber fleet mode"+at+"cam-17 fixed:s0\tX", "limber fleet power"+at+"cam-17 MODE_1\tX",
		"limber fleet ls --where state=onl\tX", "limber fleet rollout start --gate succ\tX",
		"limber fleet events --severity warn\tX", "limber family show --family lim\tX",
		"limber completion fi\tX Y")
	for _, want := range []string{"limber fleet mode X", at + "cam-17 X", at + "@line2 X", "fixed:s0 X", "MODE_15W X",
		"--where state=online X", "--gate success=X", "--severity warning X", "--family limber X", "completion fish X"} {
		if !strings.Contains(got, want) {
			t.Errorf("bash does not complete to %q:\n%s", want, got)
		}
	}
}

// mustRetain has a broker retain what a device says.
func mustRetain(t *testing.T, broker, device, kind, payload string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(broker)
	c := exec.Command(brokertest.Program(t, "mosquitto_pub"), "-h", host, "-p", port, "-q", "1", "-r", "-t",
		"limber/v1/demo/"+device+"/"+kind, "-m", payload)
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

// typed is what bash shows when lines are typed.
func typed(t *testing.T, lines ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	says(t, exitDone, "", "manual", "--out", dir)
	completions := filepath.Join(dir, "bash-completion", "completions") // below the folder of a user's data
	if err := os.MkdirAll(completions, 0o755); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "completion", "limber.bash")
	if err := os.Rename(script, filepath.Join(completions, "limber")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, "limber")); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(dir, "bashrc"), []byte(". "+bashCompletion+"\nbind 'set bell-style none'\n"+
		"bind 'set enable-bracketed-paste off'\nbind 'set horizontal-scroll-mode off'\n"))
	c := exec.CommandContext(t.Context(), brokertest.Program(t, "bash"), "--rcfile", "bashrc", "-i")
	c.Dir = dir
	c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "XDG_DATA_HOME="+dir, "TERM=dumb", "COLUMNS=500")
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\nexit\n")
	said, _ := c.CombinedOutput() // it ends with the code of the last line
	return string(said)
}

// A shell prints what begins with _activeHelp_ as it is.
func TestACompletionOffersNoWordsThatATerminalOrAShellWouldObey(t *testing.T) {
	broker := mustBroker(t)
	mustRetain(t, broker, "cam-17", "state",
		`{"schema":1,"state":"\u001b]0;x\u0007","boot_id":"b","conn_seq":1,"ts":"2026-01-31T12:00:00Z"}`)
	caps, err := os.ReadFile("../../wire/testdata/caps-full.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{`_activeHelp_ \u001b]0;x\u0007`, `$(touch x)`, "`touch`", `a\nb`, `\u202eM`, `a;b`} {
		mustRetain(t, broker, "cam-17", "caps", strings.Replace(string(caps), `"MODE_15W"`, `"`+mode+`"`, 1))
		got := limber(t, "__complete", "fleet", "power", "--broker", "mqtt://"+broker, "cam-17", "")
		if got.code != exitDone || strings.ContainsAny(got.stdout, "\x1b$`;\u202e") ||
			strings.Contains(got.stdout, "_activeHelp_") || !strings.Contains(got.stdout, ":4\n") {
			t.Errorf("%s: got %q", mode, got.stdout)
		}
	}
	got := limber(t, "__complete", "fleet", "show", "--broker", "mqtt://"+broker, "")
	if strings.Contains(got.stdout, "\x1b") {
		t.Errorf("got %q of a device's state", got.stdout)
	}
}

func TestACompletionOffersNothingWhereNoBrokerAnswers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // which takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, broker := range []string{silent.Addr().String(), "127.0.0.1:1"} {
		began := time.Now()
		got := limber(t, "__complete", "fleet", "rollout", "show", "--broker", "mqtt://"+broker, "")
		if got.code != exitDone || got.stdout != ":4\n" {
			t.Errorf("%s: got %+v, want nothing and no error", broker, got)
		}
		if took := time.Since(began); took > 3*time.Second { // of which it has 0.4
			t.Errorf("%s: it took %v", broker, took)
		}
	}
	says(t, exitDone, "@all", "__complete", "fleet", "mode", "--broker", "mqtt://127.0.0.1:1", "")
	says(t, exitDone, ":4\n", "__complete", "fleet", "mode", "--fleet", "no/fleet", "desk", "fix")
}

func TestAShellThatIsNotKnownIsNamed(t *testing.T) {
	limber(t, "completion", "tcsh").complained(t, exitUsage, `"tcsh" is none of bash, zsh and fish`)
	limber(t, "completion").complained(t, exitUsage, "wants a shell")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		says(t, exitDone, "limber", "completion", shell)
	}
}
