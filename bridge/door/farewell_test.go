package door

import (
	"net"
	"testing"
)

// The guard behind the door half-closes what it ends, and closes the socket below
// TLS and WebSocket when there is no time; both need the connection's help.
func TestConnectionsOfEveryKindCanBeHalfClosedAndCutBelow(t *testing.T) {
	for name, c := range map[string]any{"plain": &conn{}, "TLS": secured{}, "WebSocket": &wsConn{}} {
		if _, ok := c.(interface{ NetConn() net.Conn }); !ok {
			t.Errorf("%s: its socket cannot be had", name)
		}
		if _, ok := c.(interface{ CloseWrite() error }); !ok && name != "WebSocket" {
			t.Errorf("%s: it cannot be half-closed", name)
		}
	}
}
