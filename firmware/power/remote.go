package power

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// Remote changes the power mode of a board by its helper, with no rights of this
// process.
type Remote struct {
	board  *Board
	socket string
}

// DefaultSocket is where a helper listens unless it is told otherwise.
const DefaultSocket = "/run/limber/power.sock"

// Remote gives the means to have a helper at a socket change the mode.
func (b *Board) Remote(socket string) *Remote { return &Remote{b, socket} }

// Present tells whether there is a socket.
func (r *Remote) Present() bool {
	info, err := os.Stat(r.socket)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}

// Set is that of a Setter, with the same results and errors, by the helper, for which it
// waits until ctx ends. Where that cannot be asked, or gives no whole answer, the error
// says what to do.
func (r *Remote) Set(ctx context.Context, c Change) (now string, err error) {
	before := r.board.Modes().Current
	answer, err := r.ask(ctx, c)
	switch {
	case err != nil && ctx.Err() != nil:
		return before, fmt.Errorf("the power helper at %s did not answer in time; `journalctl -u limber-power` says why: %w",
			r.socket, ctx.Err())
	case err != nil:
		return before, fmt.Errorf("power helper at %s: %w", r.socket, err)
	case !answer.OK:
		r.board.Ask(ctx)
		return r.board.Modes().Current, reasoned(answer.Reason, answer.Detail)
	case answer.Mode != c.Mode: // left to the next start, or it restarts
		r.board.Await(c.Mode, answer.Mode)
	default:
		r.board.Anew(ctx)
	}
	return answer.Mode, nil
}

// ask sends a line and reads the answer.
func (r *Remote) ask(ctx context.Context, c Change) (answer reply, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", r.socket)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return answer, fmt.Errorf("%w: run the agent as the user that the helper serves", err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return answer, fmt.Errorf("%w: start it, `systemctl start limber-power.socket`", err)
	case err != nil:
		return answer, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := json.Marshal(c)
	if err != nil {
		return answer, err
	}
	conn.Write(append(line, '\n')) // one that serves other users alone answers without reading
	line, err = readLine(conn)
	if err == nil {
		err = json.Unmarshal(line, &answer)
	}
	if err != nil {
		return answer, fmt.Errorf("no whole answer: %w", err)
	}
	return answer, nil
}
