package guard

import (
	"net"
	"time"
)

// linger is how long what was still to be said may take once the end has come.
const linger = time.Second

// longestDrain bounds, in bytes, what is read and thrown away at the end.
const longestDrain = 1 << 20

// Close ends the connection and returns at once. Next and Write fail from now
// on. What was accepted still leaves, then the client gets to read it before
// the socket closes, all of it within a second; see [Conn.Done].
func (c *Conn) Close() error {
	c.end(nil, nil)
	return nil
}

func (c *Conn) end(err error, words []byte) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.lateness = time.AfterFunc(linger, c.abort)
	c.stop(err)
	c.mu.Unlock()
	c.out.close(words)
}

// stop is the first step of the end, with c.mu held.
func (c *Conn) stop(err error) {
	c.ended, c.err = true, err
	close(c.halt)
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // wakes Next
}

// finish is the last act of the queue's last writer.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	if !c.ended {
		c.stop(err)
	}
	v, _ := c.err.(*Violation)
	gone := c.eof || c.left || v != nil && v.Timeout()
	lateness := c.lateness
	c.mu.Unlock()

	if err == nil && !gone && c.Written() > 0 {
		c.drain()
	}
	if err == nil {
		_ = c.conn.Close() // nobody is left to be told
	} else {
		c.abort()
	}
	if lateness != nil {
		lateness.Stop()
	}
	close(c.done)
}

// drain says that nothing more comes and reads until the client has closed.
// Bytes left unread would turn the end into a reset, which takes from the
// client what it was told last. The caller's timer ends it.
func (c *Conn) drain() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.reading.Lock() // Next has been woken, and will not read again
	defer c.reading.Unlock()
	if c.conn.SetReadDeadline(time.Time{}) != nil {
		return
	}
	scratch := make([]byte, 4<<10)
	for left := longestDrain; left > 0; {
		n, err := c.conn.Read(scratch)
		if err != nil {
			return
		}
		left -= n
	}
}

// abort closes the socket now. The Close of a TLS connection would wait for
// room to write its alert, so the connection below goes first.
func (c *Conn) abort() {
	if below, ok := c.conn.(interface{ NetConn() net.Conn }); ok {
		_ = below.NetConn().Close()
	}
	_ = c.conn.Close()
}
