package ws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

const (
	// unauthenticated is the length of the longest frame before the first join.
	unauthenticated = 8 << 10

	// farTooLong is how many times the limit is read away before the
	// connection is closed.
	farTooLong = 4

	// lingerFor is how long a client has to answer a close frame.
	lingerFor = time.Second

	// silence is how many pings in a row may go without any answer.
	silence = 2
)

// conn is one connection. Its reader, run, owns it; the timer, the bus and the
// handler only put things into the queue and set the state.
type conn struct {
	authenticated func() // frees the place among those who are not

	h       *Handler
	ws      *websocket.Conn
	wire    *wire
	session *bridge.Session
	queue   queue
	written atomic.Uint64 // frames
	unasked int           // bytes written since the last ping; the writer's
	pace    *bridge.Pace
	writer  func()        // turn; kept, since a new one for each burst is garbage
	done    chan struct{} // closed by the writer when the connection has ended
	amid    bool          // what is read next need not be the first byte of a frame; the reader's

	mu      sync.Mutex
	timer   *time.Timer
	joined  bool
	leaving bool        // goaway was said, the timer closes
	silent  int         // pings since something was heard
	probe   *time.Timer // asks whether what was written has arrived; nil: nobody wants to know
	end     *ending
	since   time.Time
}

func (h *Handler) newConn(ws *websocket.Conn, wire *wire, shown topics.Credentials, authenticated func()) *conn {
	c := &conn{h: h, ws: ws, wire: wire, done: make(chan struct{}), since: time.Now(), authenticated: authenticated}
	c.writer = c.turn
	c.pace = bridge.NewPace(h.cfg.Frames)
	c.queue.limit = h.cfg.Queue
	c.session = bridge.NewSession(&h.bridge, bridge.Client{Credentials: shown, Out: c.out, End: c.over})
	ws.SetPingHandler(c.pinged)
	ws.SetPongHandler(c.ponged)
	ws.SetCloseHandler(func(int, string) error { return nil }) // read answers
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(h.cfg.Join, c.tick)
	return c
}

// run reads until the connection ends, and cleans up. It waits here, where its stack
// is not deep. When it is quiet another run goes on: see [quietAfter].
func (c *conn) run() {
	for more := true; more; more = c.read() {
		if quiet := c.wire.wait(); quiet {
			go c.run()
			return
		}
	}
	<-c.done
	c.wire.Close()
	c.cleanUp()
	c.h.forget(c)
}

// cleanUp is not a part of run, whose frame stays for as long as the connection.
func (c *conn) cleanUp() {
	c.mu.Lock()
	c.timer.Stop()
	if c.probe != nil {
		c.probe.Stop()
	}
	end := *c.end
	c.mu.Unlock()
	c.h.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, "websocket ended",
		slog.String("conn", c.session.Conn()), slog.String("peer", c.session.Peer()), slog.Int("code", end.code),
		slog.String("why", end.why), slog.Duration("after", time.Since(c.since).Round(time.Millisecond)), slog.String("remote", c.session.Remote().String()))
}

// read hands a frame to the session, when something has come. False: there are no
// more.
func (c *conn) read() (more bool) {
	limit, _ := c.limit()
	if !c.amid && c.wire.whole(limit, c.take) {
		return true
	}
	c.amid = true
	c.wire.readFrames()
	kind, r, err := c.ws.NextReader()
	if err != nil {
		c.readFailed(err)
		return false
	}
	c.paced()
	switch {
	case c.ended():
		return true // until the client has seen the close frame
	case kind != websocket.TextMessage:
		c.finish(ending{code: topics.BadRequest.Close(), why: "a frame is text, not binary"}, false)
		return true
	}
	if err := c.receive(r); err != nil {
		c.readFailed(err)
		return false
	}
	return true
}

// take takes a message that came as one whole frame.
func (c *conn) take(kind int, payload []byte) {
	switch kind {
	case websocket.PingMessage:
		_ = c.pinged(string(payload)) // neither fails
	case websocket.PongMessage:
		_ = c.ponged(string(payload))
	default:
		if c.paced(); !c.ended() {
			c.text(payload)
		}
	}
}

// paced holds the client to its budget of frames, pings and garbage among them.
func (c *conn) paced() {
	if err := c.pace.Spend(c.h.life.Done()); err != nil && !c.ended() {
		c.session.Refuse(nil, err)
		c.finish(endingOf(err), false)
	}
}

// receive reads one frame. The error is of the connection.
func (c *conn) receive(r io.Reader) error {
	limit, joined := c.limit()
	frame := c.h.frames.Get().(*incoming)
	defer func() {
		frame.Reset()
		frame.from.R = nil
		c.h.frames.Put(frame)
	}()
	frame.from = io.LimitedReader{R: r, N: int64(limit) + 1}
	if _, err := frame.ReadFrom(&frame.from); err != nil {
		return err
	}
	if frame.Len() > limit {
		return c.tooLong(r, frame.Bytes()[:limit], joined)
	}
	c.amid = false
	c.text(frame.Bytes())
	return nil
}

// text takes a text that is not too long.
func (c *conn) text(frame []byte) {
	c.heard()
	if _, joined := c.limit(); joined {
		c.session.Receive(c.h.life, frame)
		return
	}
	c.receiveFirst(frame)
}

// incoming is a frame that is being read.
type incoming struct {
	bytes.Buffer
	from io.LimitedReader
}

// receiveFirst takes a frame that may be the first join. Authentication goes
// deep, and over TLS the reader would keep the stack for as long as it lives: so it
// is done on one of its own.
func (c *conn) receiveFirst(frame []byte) {
	ctx, cancel := context.WithTimeout(c.h.life, c.h.cfg.Join)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.session.Receive(ctx, frame)
	}()
	<-done
	if c.session.Joined() {
		c.authenticated()
		c.admit()
	}
}

// tooLong answers a frame that goes on in r after its head.
func (c *conn) tooLong(r io.Reader, head []byte, joined bool) error {
	limit := len(head)
	if !joined {
		e := topics.Errorf(topics.TooLarge, "a frame before the first join has at most %d bytes", limit)
		c.session.Refuse(head, e)
		c.finish(ending{code: topics.Unauthorized.Close(), why: e.Message}, false)
		return nil
	}
	_, err := io.CopyN(io.Discard, r, int64(limit)*(farTooLong-1))
	switch {
	case err == nil:
		c.finish(ending{code: topics.TooLarge.Close(), why: fmt.Sprintf("a frame has at most %d bytes, this one is more than %d times as long", limit, farTooLong)}, false)
		return nil
	case errors.Is(err, io.EOF):
		c.heard()
		c.session.Refuse(head, topics.Errorf(topics.TooLarge, "a frame has at most %d bytes", limit))
		return nil
	}
	return err
}

// readFailed ends the connection for the error that reading it ended with.
func (c *conn) readFailed(err error) {
	closed, ok := errors.AsType[*websocket.CloseError](err)
	switch {
	case ok && closed.Code != closeLost:
		if left(closed.Code) { // it has, or does not want, what went out
			c.session.Seen(c.written.Load())
			c.session.Close(c.stays())
		}
		c.finish(ending{code: closed.Code, why: "the client closed", answer: true}, true)
	case c.isTooLate(err):
		c.finish(c.noJoin(), false)
	case ok, isNetError(err):
		c.because(ending{code: closeLost, why: "the connection was lost: " + err.Error()})
		c.wire.Close()
		c.finish(ending{}, true)
	default:
		// An offence against RFC 6455. Mostly gorilla has written the close
		// frame already, which the writer then only sends.
		c.finish(ending{code: websocket.CloseProtocolError, why: err.Error()}, true)
	}
}

// isTooLate reports whether err is that no join came in the time that the door waits
// for a stranger. It may be up before Config.Join, as it counts from when he came, or at
// the same time.
func (c *conn) isTooLate(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	c.mu.Lock()
	defer c.mu.Unlock()
	return ok && timeout.Timeout() && !c.joined
}

func (c *conn) noJoin() ending {
	return ending{code: topics.Unauthorized.Close(), why: fmt.Sprintf("no join came within %v", c.h.cfg.Join)}
}

func isNetError(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe)
}

// stays reports whether the server means to keep the connection. A client that
// was told to go elsewhere and does, does not leave its rooms.
func (c *conn) stays() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end == nil && !c.leaving
}

// out is the session's way to the client.
func (c *conn) out(frame bridge.Frame) error {
	start, err := c.queue.push(frame)
	c.startWriter(start)
	return err
}

// over ends the connection for the session.
func (c *conn) over(why *topics.Error) {
	c.finish(endingOf(why), why.Code == topics.Busy) // a full queue is not waited for
}

// finish ends the connection: with a close frame, after what waits or instead
// of it. The first reason counts.
func (c *conn) finish(e ending, drop bool) {
	c.because(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.startWriter(c.queue.end(c.end.payload(), drop))
}

// because notes why the connection ends.
func (c *conn) because(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = &e
	}
}

func (c *conn) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end != nil
}

// resumable reports whether the client may come back to where it was: not when it
// was told to go, or not to come again.
func (c *conn) resumable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.leaving && c.end.code < noReturn && c.end.code != goingAway.code
}

// ponged takes the answer to a ping, which says how many frames had been written.
func (c *conn) ponged(payload string) error {
	c.paced()
	c.heard()
	if n, err := strconv.ParseUint(payload, 10, 64); err == nil {
		c.session.Seen(n)
	}
	return nil
}

// pinged answers a ping of the client.
func (c *conn) pinged(payload string) error {
	c.paced()
	c.heard()
	c.startWriter(c.queue.pushPong(payload))
	return nil
}

func (c *conn) heard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = 0
}

// limit is how long a frame may be.
func (c *conn) limit() (limit int, joined bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.joined {
		return c.h.cfg.MaxMessage, true
	}
	return min(unauthenticated, c.h.cfg.MaxMessage), false
}

// admit ends the time in which a join must come.
func (c *conn) admit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined = true
	if !c.leaving {
		c.timer.Reset(c.h.cfg.Ping)
	}
}

// tick is the timer.
func (c *conn) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var e ending
	switch {
	case c.end != nil:
		return
	case c.leaving:
		e = goingAway
	case !c.joined:
		e = c.noJoin()
	case c.silent >= silence:
		e = ending{code: closePing, why: fmt.Sprintf("%d pings went without an answer", silence)}
	default:
		c.silent++
		c.timer.Reset(c.h.cfg.Ping)
		c.startWriter(c.queue.pushPing())
		return
	}
	c.end = &e
	c.startWriter(c.queue.end(e.payload(), false))
}

// leave says goaway, and closes the connection after that time.
func (c *conn) leave(in time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil || c.leaving {
		return
	}
	c.leaving = true
	c.timer.Reset(in)
	start, err := c.queue.push(bridge.Frame{Head: bridge.Goaway(in)})
	if err == nil {
		c.startWriter(start)
	}
}
