package ws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/bridge/ws"
	"github.com/beckon-rtc/beckon/topics"
)

// house is the door on a bus in memory, with a server around it.
type house struct {
	*ws.Handler
	bus    *bustest.Memory
	url    string
	dialer websocket.Dialer
	log    *logs
	writes atomic.Int64 // of the server, over pipes

	waiting atomic.Pointer[string] // stack of its latest read, over pipes

	mu    sync.Mutex
	shown []topics.Credentials
}

// logs is what was logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// authenticate lets anyone in by the name of the first join, but for the token
// "wrong".
func (h *house) authenticate(_ context.Context, c topics.Credentials) (topics.Identity, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown = append(h.shown, c)
	switch {
	case c.Token == "wrong":
		return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the token is wrong")
	case c.Name == "":
		return bustest.PeerOf("guest1"), nil
	}
	return bustest.PeerOf(c.Name), nil
}

func build(t testing.TB, set func(*ws.Config)) *house {
	h := &house{bus: &bustest.Memory{Grace: 5 * time.Second}, log: new(logs)}
	cfg := ws.Config{
		Connect:      h.bus.Connect,
		Authenticate: h.authenticate,
		Logger:       slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if set != nil {
		set(&cfg)
	}
	handler, err := ws.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Handler = handler
	return h
}

// open serves over TCP.
func open(t testing.TB, set func(*ws.Config)) *house {
	h := build(t, set)
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		h.Close()
		server.Close()
	})
	h.url = "ws" + strings.TrimPrefix(server.URL, "http")
	return h
}

// openPipes serves over pipes, for tests on fake time.
func openPipes(t testing.TB, set func(*ws.Config)) *house {
	h := build(t, set)
	l := &pipes{h: h, conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: h}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		h.Close()
		server.Close()
		<-served
	})
	h.url = "ws://beckon.example/ws"
	h.dialer.NetDialContext = l.dial
	return h
}

// pipes is a listener in memory.
type pipes struct {
	h      *house
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipes) dial(context.Context, string, string) (net.Conn, error) {
	far, near := net.Pipe()
	select {
	case l.conns <- &serverConn{Conn: near, writes: &l.h.writes, last: &l.h.waiting}:
		return far, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// serverConn is the server's end of a pipe. It lends buffers, as the door's
// connections do.
type serverConn struct {
	net.Conn
	writes *atomic.Int64
	last   *atomic.Pointer[string]
}

func (c *serverConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func (c *serverConn) ReadLent(pool *sync.Pool) (*[]byte, int, error) {
	stack := string(debug.Stack())
	c.last.Store(&stack)
	buf := pool.Get().(*[]byte)
	n, err := c.Read(*buf)
	if err != nil {
		pool.Put(buf)
		return nil, 0, err
	}
	return buf, n, nil
}

// client is a WebSocket client.
type client struct {
	*websocket.Conn
	t testing.TB
}

func (h *house) dial(t testing.TB) *client { return h.dialWith(t, "", nil) }

func (h *house) dialWith(t testing.TB, query string, header http.Header) *client {
	t.Helper()
	c, _, err := h.dialer.Dial(h.url+query, header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, t}
}

// refused dials, and wants that HTTP status.
func (h *house) refused(t *testing.T, status int, header http.Header) string {
	t.Helper()
	c, r, err := h.dialer.Dial(h.url, header)
	if !errors.Is(err, websocket.ErrBadHandshake) || r.StatusCode != status {
		if err == nil {
			c.Close()
		}
		t.Fatalf("dialing: %v, want status %d", err, status)
	}
	text := make([]byte, 1000)
	n, _ := r.Body.Read(text)
	return string(text[:n])
}

// join dials and joins the garage.
func (h *house) join(t testing.TB, peer string) *client {
	t.Helper()
	c := h.dial(t)
	c.join(peer)
	return c
}

func (c *client) join(peer string) {
	c.t.Helper()
	c.send(`{"type":"join","room":"garage","peer":"` + peer + `"}`)
	c.want(`"type":"joined"`)
}

func (c *client) send(frame string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// next reads a frame.
func (c *client) next() string {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		c.t.Fatal(err)
	}
	kind, frame, err := c.ReadMessage()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	if kind != websocket.TextMessage || !json.Valid(frame) {
		c.t.Fatalf("read a frame of type %d: %q", kind, frame)
	}
	return string(frame)
}

// want reads a frame which has all the parts in it.
func (c *client) want(parts ...string) string {
	c.t.Helper()
	frame := c.next()
	for _, p := range parts {
		if !strings.Contains(frame, p) {
			c.t.Fatalf("got %s, want %s in it", frame, p)
		}
	}
	return frame
}

// skipTo reads frames until one has part in it.
func (c *client) skipTo(part string) string {
	c.t.Helper()
	for {
		if frame := c.next(); strings.Contains(frame, part) {
			return frame
		}
	}
}

// closed reads until the connection ends with that close code, and returns the
// reason.
func (c *client) closed(code int) string {
	c.t.Helper()
	for {
		_, frame, err := c.ReadMessage()
		if err == nil {
			c.t.Logf("before the close came %.100s", frame)
			continue
		}
		e, ok := errors.AsType[*websocket.CloseError](err)
		if !ok || e.Code != code {
			c.t.Fatalf("the connection ended with %v, want %d", err, code)
		}
		return e.Text
	}
}

// bye closes with that code, 0 for no close frame at all.
func (c *client) bye(code int) {
	c.t.Helper()
	if code != 0 {
		if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, "")); err != nil {
			c.t.Fatal(err)
		}
		c.closed(code)
	}
	c.Close()
}
