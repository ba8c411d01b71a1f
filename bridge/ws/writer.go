package ws

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// This is the half of a conn that writes: what the queue has, in turns.

func (c *conn) startWriter(start bool) {
	switch {
	case !start:
	case c.wire.eager != nil:
		c.h.cfg.Soon(c.writer)
	default:
		go c.writer()
	}
}

// turn sends a load of what waits, in one go, if the socket takes it at once. If not,
// and at the end, there is a goroutine for it, which may wait.
func (c *conn) turn() {
	l, ok := c.queue.take(bridge.Chunk)
	if !ok {
		return
	}
	err := c.encode(l)
	switch {
	case err == nil && l.last == nil && c.wire.try():
		c.startWriter(c.queue.wrote(l.size))
	case c.wire.eager != nil:
		go c.write(l, err)
	default: // this goroutine is the one
		c.write(l, err)
	}
}

// write is the writer: it sends a load, which encode has put into the wire, and what
// waits then, and goes.
func (c *conn) write(l load, err error) {
	for {
		if errors.Is(err, websocket.ErrCloseSent) {
			err = nil // by gorilla
		}
		err = errors.Join(err, c.wire.flush())
		if err != nil || l.last != nil {
			c.wrote(err)
			return
		}
		if !c.queue.wrote(l.size) {
			return
		}
		l, _ = c.queue.take(bridge.Chunk)
		err = c.encode(l)
	}
}

func (c *conn) encode(l load) error {
	if l.pong != nil {
		if err := c.ws.WriteMessage(websocket.PongMessage, l.pong); err != nil {
			return err
		}
	}
	for _, f := range l.frames {
		if !c.wire.text(f) {
			return nil
		}
		c.written.Add(1)
	}
	c.unasked += l.size
	if l.ping || c.unasked >= probeBytes {
		c.unasked = 0
		if err := c.ws.WriteMessage(websocket.PingMessage, strconv.AppendUint(nil, c.written.Load(), 10)); err != nil {
			return err
		}
	} else if len(l.frames) > 0 {
		c.startProbe()
	}
	if l.last != nil {
		return c.ws.WriteMessage(websocket.CloseMessage, l.last)
	}
	return nil
}

// wrote is the end of the writer: the close frame is out, or the socket broken.
func (c *conn) wrote(err error) {
	if err != nil {
		e := ending{code: closeLost, why: "the connection was lost: " + err.Error()}
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			e = ending{code: topics.Timeout.Close(), why: fmt.Sprintf("too slow: nothing was taken for %v", c.h.cfg.Write)}
		}
		c.because(e)
		c.queue.kill()
		c.wire.Close()
	} else {
		c.wire.linger()
	}
	if c.resumable() {
		c.session.Lost()
	} else {
		c.session.Close(false)
	}
	close(c.done)
}

// probeAfter is how long after something was written a ping asks whether it has
// arrived, at most. What has not would be said again to the next connection.
const probeAfter = time.Second

// probeBytes is after how many bytes one asks at once.
const probeBytes = 64 << 10

func (c *conn) startProbe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.probe == nil {
		c.probe = time.AfterFunc(probeAfter, c.ask)
	}
}

func (c *conn) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probe = nil
	if c.end == nil {
		c.startWriter(c.queue.pushPing())
	}
}
