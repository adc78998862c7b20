package brokercheck

import (
	"bufio"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/limber-edge/limber/broker-config/brokertest"
)

// aedesFolder has the broker's script, and the versions of what it needs, which npm
// puts beside it.
const aedesFolder = "testdata/aedes"

// installAedes does so once.
var installAedes = sync.OnceValues(func() (string, error) {
	npm := exec.Command("npm", "ci", "--engine-strict", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = aedesFolder
	said, err := npm.CombinedOutput()
	return string(said), err
})

// startAedes runs aedes until the test ends and returns its address. Without npm, with
// a node that is too old for it, or where npm reaches no registry, the test is skipped.
func startAedes(tb testing.TB) string {
	tb.Helper()
	brokertest.Program(tb, "npm")
	node := exec.Command(brokertest.Program(tb, "node"), "broker.js")
	if said, err := installAedes(); err != nil {
		tb.Skipf("npm does not install aedes: %v\n%s", err, said)
	}
	node.Dir = aedesFolder
	stdin, err := node.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := node.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		stdin.Close()
		node.Wait() // it ends with its standard input
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		tb.Fatalf("aedes did not start: %v", err)
	}
	return net.JoinHostPort("127.0.0.1", strings.TrimSpace(port))
}
