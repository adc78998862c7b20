package devbroker

import (
	"log/slog"
	"net"
	"net/http"

	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/limber-edge/limber/agent/mqtt/websocket"
)

// webListener owns the sockets of clients that speak MQTT over a WebSocket, on
// whatever path.
type webListener struct {
	*listener
	server *http.Server
	limits websocket.Limits
}

func newWebListener(bound net.Listener, maxPacket int, log *slog.Logger) *webListener {
	return &webListener{
		listener: newListener("ws", bound, log),
		server: &http.Server{
			ReadHeaderTimeout: connectTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		limits: websocket.Limits{Message: 2 * maxPacket, Pong: connectTimeout}, // packets may come together
	}
}

// Serve accepts clients until Close.
func (l *webListener) Serve(establish listeners.EstablishFn) {
	l.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, l.limits)
		if err != nil {
			l.log.Debug("client not accepted", "remote", r.RemoteAddr, "err", err)
		} else if l.adopt(conn) {
			l.attend(conn, establish)
		}
	})
	l.server.Serve(l.bound) // ends with Close
}

// Close closes every socket and waits for their goroutines.
func (l *webListener) Close(done listeners.CloseFn) {
	l.server.Close()
	l.listener.Close(done)
}
