package door

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"time"
)

// idleTimeout is how long an HTTP connection is kept for another request, if it is of
// a trusted proxy or its client was authenticated ([Known]). It is more than proxies
// have, which keep theirs for others' requests: nginx and load balancers a minute,
// Traefik 90 s, Caddy two minutes. One that sends a POST just when its connection is
// closed here cannot know whether it was heard, and does not send it again.
//
// Any other connection has the time of a handshake ([Config.Handshake]). Everybody may
// have many of these, and browsers open a new one by themselves. Loopback is no
// exception: a proxy there sees at once that its connection was closed, and has to be
// declared anyway for its clients to have addresses.
const idleTimeout = 150 * time.Second

// Known keeps the HTTP connection of the request that ctx is of for another one:
// whose it is was authenticated. In a foreign server it does nothing.
func Known(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.known.Store(true)
	}
}

// waits follows what net/http does with c: it has answered, and waits for another
// request, or has read that.
func (c *conn) waits(s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = s == http.StateIdle
}

// idleUntil is when c ends, if it is not asked for anything any more. With c.mu held.
func (c *conn) idleUntil(t time.Time) time.Time {
	if c.known.Load() || c.door.trusts(addrOf(c.RemoteAddr())) {
		return t
	}
	if soon := time.Now().Add(c.door.config.Handshake); t.IsZero() || t.After(soon) {
		return soon
	}
	return t
}

// late takes note of an error of a read or a write. A client that was given time, and
// has not taken by then what was written, does not take it later. The system would
// keep that, and the socket for it, for minutes after the end; so it is thrown away.
func (c *conn) late(err error, writing bool) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	if writing || idle && unread(c.raw) {
		discard(c.raw)
	}
}

// discard has the end of a socket be a reset.
func discard(socket net.Conn) {
	if s, ok := socket.(interface{ SetLinger(sec int) error }); ok {
		_ = s.SetLinger(0) // of a socket that has ended, it fails
	}
}
