package broker

import (
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// The window is what a client may leave unacknowledged of QoS 1 and 2: so many
// messages, and so many bytes as may wait for it (Config.Queue). Further ones wait.
//
// A client whose window is full, for which more waits, and that acknowledges nothing
// is stalled: its socket may have taken all that it was sent, so that no write tells,
// and yet nothing reaches it any more. It is cut off like one that does not read,
// and what it did not acknowledge goes to the next connection, or its senders are
// told. One acknowledgement is enough for it to have its time anew.

// sendWindow is how many messages of QoS 1 and 2 a client may leave
// unacknowledged before further ones wait (MQTT 5, 4.9), unless it asked for
// fewer.
const sendWindow = 1024

// slowest is how many bytes of one message a client has to take in Config.Write, at
// least; it is what the guard asks of its socket.
const slowest = 32 << 10

// fits reports whether the window has room for out.
func (c *client) fits(out *outgoing) bool {
	if len(c.inFlight.items()) >= c.window {
		return false
	}
	return c.unacked == 0 || c.unacked+out.size <= c.broker.Queue
}

// isFull reports whether what waits, waits for the window. c.mu is held.
func (c *client) isFull() bool {
	if c.corked || c.waiting.empty() || len(c.inFlight.items()) == 0 {
		return false
	}
	first := c.waiting.first()
	return first.qos() > 0 && !c.fits(first)
}

// watch begins to wait for an acknowledgement, if the window is full. c.mu is held.
func (c *client) watch() {
	if c.stall == nil && c.broker.Write > 0 && c.isFull() {
		c.heard = time.Now()
		c.stall = time.AfterFunc(c.allowed(), c.stalled)
	}
}

// allowed is how long the client may take for an acknowledgement: what a message of
// its size needs on the slowest connection that is good enough. Who asked for a
// window of a few messages does one after the other, and may be busy with one, for
// as long as others wait for a peer that is not there. c.mu is held.
func (c *client) allowed() time.Duration {
	oldest := c.inFlight.items()[0]
	most := c.broker.Write * time.Duration(1+len(oldest.m.Payload)/slowest)
	if c.window < sendWindow && len(c.inFlight.items()) >= c.window {
		most = max(most, c.broker.Hold)
	}
	return most
}

// stalled looks whether the client acknowledged anything lately.
func (c *client) stalled() {
	c.mu.Lock()
	mochi := c.mochi.Load()
	if !c.isFull() || mochi == nil || mochi.Closed() {
		c.stall = nil
		c.mu.Unlock()
		return
	}
	if c.inFlight.items()[0].end > c.Written() { // with the guard, which sees to it that it leaves
		c.heard = time.Now()
	}
	left := c.allowed() - time.Since(c.heard)
	if left > 0 {
		c.stall.Reset(left)
		c.mu.Unlock()
		return
	}
	why := topics.Errorf(topics.Busy, "%d messages of %d bytes are not acknowledged, and more wait: not one was for %v",
		len(c.inFlight.items()), c.unacked, time.Since(c.heard))
	c.mu.Unlock()
	c.broker.Logger.Warn("cut off", "peer", c.session.peer, "conn", c.session.name, "via", viaMQTT, "why", why.Message)
	c.end(end{code: endSlow.code, text: why.Message})
}

// rest ends the watch, and the alarm. c.mu is held.
func (c *client) rest() {
	for _, t := range []*time.Timer{c.stall, c.alarm} {
		if t != nil {
			t.Stop()
		}
	}
}
