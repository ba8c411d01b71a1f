package door

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

const (
	maxHeader = 16 << 10 // bytes of a request's header

	// answerTimeout is how long a request may take, from its header to the last byte
	// of its answer, so that nobody holds a connection by reading a byte a second. The
	// doors give up after 7 s of waiting for a device, a body or an identity, and a
	// second of being slowed down may come on top; the longest answer has 23 KB. A
	// stream of events has deadlines of its own.
	answerTimeout = 10 * time.Second
)

type connKey struct{} // of the *conn in a request's context

// connOf returns the door's connection that r came by, nil in a foreign server.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

func (d *Door) newServer(handler http.Handler) *http.Server {
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &http.Server{
		Handler:           d.requests(handler),
		Protocols:         &http1,
		ReadHeaderTimeout: d.config.Handshake, // from accept for the first request, see conn
		ReadTimeout:       d.config.Handshake,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,      // but see conn.idleUntil
		MaxHeaderBytes:    maxHeader - 4096, // net/http adds 4096
		ErrorLog:          slog.NewLogLogger(d.config.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, unsecured(c))
		},
		ConnState: d.state,

		DisableGeneralOptionsHandler: true, // or OPTIONS * would be answered past all that is checked here
	}
}

// requests hands each request to handler.
func (d *Door) requests(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.wg.Add(1) // the connection's own count may end before the handler, when it hijacks
		defer d.wg.Done()
		again := connOf(r).request()
		defer d.report(r)
		if r.ProtoMajor != 1 { // the preface of HTTP/2, which net/http lets pass (RFC 9113, section 3.4)
			w.Header().Set("Connection", "close")
			http.Error(w, "this server speaks HTTP/1.1", http.StatusHTTPVersionNotSupported)
			return
		}
		if err := d.paced(r, again); err != nil {
			w.Header().Set("Connection", "close")
			bridge.Problem(w, err)
			return
		}
		asked, err := d.fromClient(r)
		if err != nil {
			d.proxied.say(d.config.Logger, slog.LevelWarn, "request of a trusted proxy refused: "+err.Error(), "remote", connOf(r).RemoteAddr())
			w.Header().Set("Connection", "close")
			bridge.Problem(w, topics.Errorf(topics.BadRequest, "%v", err))
			return
		}
		handler.ServeHTTP(w, asked)
	})
}

// paced holds a connection to its budget of requests, from the second one on: that of
// a trusted proxy has none, since it is for many clients. Who is over it waits for a
// while; the error is for who does not let himself be slowed down. Many requests may
// be sent without waiting for an answer, and each costs more than its bytes.
func (d *Door) paced(r *http.Request, again bool) *topics.Error {
	c := connOf(r)
	if !again || d.trusts(addrOf(c.RemoteAddr())) {
		return nil
	}
	if c.requests == nil {
		c.requests = bridge.NewPace(d.config.Requests)
	}
	if c.requests.Spend(r.Context().Done()) == nil {
		return nil
	}
	e := topics.Errorf(topics.RateLimited, "more than %d requests a second by one connection", d.config.Requests)
	e.RetryAfter = 1
	return e
}

// report logs a panic of a handler, which net/http recovers from; its own line
// would not be seen, at debug level.
func (d *Door) report(r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler {
		d.config.Logger.Error("handler panicked", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// state follows an HTTP connection, and ends the count of one that net/http is done
// with.
func (d *Door) state(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateIdle, http.StateActive:
		unsecured(c).waits(s)
	case http.StateClosed, http.StateHijacked:
		d.wg.Done()
	}
}

// handoff is the listener of the HTTP server: it accepts what it is given.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newHandoff() *handoff {
	h := &handoff{conns: make(chan net.Conn), done: make(chan struct{})}
	h.close = sync.OnceFunc(func() { close(h.done) })
	return h
}

// give passes c to Accept. False: it is closed.
func (h *handoff) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.close()
	return nil
}

func (h *handoff) Addr() net.Addr { return handoffAddr{} }

type handoffAddr struct{}

func (handoffAddr) Network() string { return "door" }
func (handoffAddr) String() string  { return "door" }

// Hold makes the connection of r wait again, which is about to speak a protocol of
// its own and has not authenticated: it counts under the caps until admit is
// called, and as a new one of its client. The error, for the client, is why it
// cannot. In a foreign server nothing is held.
func Hold(r *http.Request) (admit func(), err error) { return hold(r, true) }

// HoldRequest does so while a request is authenticated, which is answered on its
// connection: that is not a new one, and there need not be enough left for more.
func HoldRequest(r *http.Request) (admit func(), err error) { return hold(r, false) }

func hold(r *http.Request, isNew bool) (admit func(), err error) {
	c := connOf(r)
	if c == nil {
		return func() {}, nil
	}
	if err := c.hold(clientOf(r), isNew); err != nil {
		return nil, err
	}
	return c.admit, nil
}
