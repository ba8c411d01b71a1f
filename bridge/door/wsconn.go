package door

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
)

// errText ends a connection that sent a text frame [MQTT-6.0.0-1].
var errText = errors.New("a WebSocket text frame, where MQTT takes binary ones")

// wsConn is a WebSocket as a stream: a read goes on over the ends of messages,
// a write is one binary message. One goroutine at a time may read, and one
// write. A read deadline that passed is final.
type wsConn struct {
	ws    *websocket.Conn
	below *conn // of the door, nil in a foreign server
	tls   *tls.ConnectionState

	remote net.Addr
	pace   *bridge.Pace
	gone   chan struct{} // closed by end

	message io.Reader // rest of the message that is being read, or nil

	writing  atomic.Bool
	deadline atomic.Pointer[time.Time] // of writes
	ended    sync.Once
}

// NetConn is the socket, for who cannot wait for a close frame.
func (c *wsConn) NetConn() net.Conn {
	if above, ok := c.ws.NetConn().(interface{ NetConn() net.Conn }); ok {
		return above.NetConn()
	}
	return c.ws.NetConn()
}

func (c *wsConn) Read(b []byte) (int, error) {
	for {
		if c.message == nil {
			kind, message, err := c.ws.NextReader()
			if err == nil {
				err = c.paced()
			}
			if err != nil {
				return 0, ending(err)
			}
			if kind != websocket.BinaryMessage {
				c.end(websocket.CloseUnsupportedData)
				return 0, errText
			}
			c.message = message
		}
		n, err := c.message.Read(b)
		if err == io.EOF {
			c.message, err = nil, nil
			if n == 0 && len(b) > 0 {
				continue
			}
		}
		return n, ending(err)
	}
}

// paced holds the client to its budget of frames.
func (c *wsConn) paced() error {
	if err := c.pace.Spend(c.gone); err != nil {
		c.endWith(websocket.ClosePolicyViolation, err.Message)
		return err
	}
	return nil
}

// watchControl counts the frames that Read does not see.
func (c *wsConn) watchControl() {
	ping, pong := c.ws.PingHandler(), c.ws.PongHandler()
	c.ws.SetPingHandler(func(text string) error { return errors.Join(c.paced(), ping(text)) })
	c.ws.SetPongHandler(func(text string) error { return errors.Join(c.paced(), pong(text)) })
}

// ending turns the end that a close frame announces into io.EOF, and gorilla's
// error after a deadline into the one of net.Conn.
func ending(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return os.ErrDeadlineExceeded
	}
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
		return io.EOF
	}
	return err
}

func (c *wsConn) Write(b []byte) (int, error) {
	c.writing.Store(true)
	defer c.writing.Store(false)
	if c.below != nil && !c.below.admitted.Load() {
		c.below.admit() // the broker has answered: this is its CONNACK
	}
	if t := c.deadline.Load(); t != nil {
		c.ws.SetWriteDeadline(*t)
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, ending(err)
	}
	return len(b), nil
}

// Close says goodbye in a close frame and ends the connection.
func (c *wsConn) Close() error {
	c.end(websocket.CloseNormalClosure)
	return nil
}

// end sends a close frame, unless a write is under way that may be stuck, and
// ends the connection. The first call counts.
func (c *wsConn) end(code int) { c.endWith(code, "") }

func (c *wsConn) endWith(code int, why string) {
	c.ended.Do(func() {
		close(c.gone)
		if !c.writing.Load() {
			c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, why), time.Now().Add(closeWait))
		}
		c.ws.Close()
	})
}

func (c *wsConn) LocalAddr() net.Addr  { return c.ws.LocalAddr() }
func (c *wsConn) RemoteAddr() net.Addr { return c.remote }

// ConnectionState says what TLS found out; it is zero without TLS.
func (c *wsConn) ConnectionState() tls.ConnectionState {
	if c.tls == nil {
		return tls.ConnectionState{}
	}
	return *c.tls
}

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *wsConn) SetReadDeadline(t time.Time) error { return c.ws.SetReadDeadline(t) }

// SetWriteDeadline applies to the write under way, too, as net.Conn has it.
func (c *wsConn) SetWriteDeadline(t time.Time) error {
	c.deadline.Store(&t)
	return c.ws.NetConn().SetWriteDeadline(t)
}
