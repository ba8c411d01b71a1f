package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/broker/guard"
	"github.com/beckon-rtc/beckon/topics"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// client is one MQTT connection, and the receiver of its session. mochi reads the
// packets from it that it is to answer, and writes to it.
//
// It numbers and counts its outgoing messages itself. mochi has one space of
// packet identifiers for both directions, in which a client's publish deletes
// the broker's unacknowledged one.
type client struct {
	*guard.Conn
	broker  *Broker
	socket  net.Conn                    // as the door handed it in
	mochi   atomic.Pointer[mqtt.Client] // nil until its CONNACK was written
	session *Session                    // nil before CONNECT was accepted
	largest uint32                      // packet that it takes, 0 for any; set before mochi
	ended   atomic.Pointer[end]         // why the server ended it; nil if it did not

	// Of the packet that is being answered; only the reading goroutine uses them.
	packet      []byte        // what mochi has yet to read of it
	topic       string        // of the last publish
	refused     *topics.Error // what a publish of QoS 2 met with
	acks        []byte        // reason codes of a SUBACK or UNSUBACK
	refusal     string        // what the SUBACK says in words
	askedExpiry bool          // the client asked for a session that outlives the connection

	mu       sync.Mutex // guards what follows
	window   int
	corked   bool // a SUBACK has to go first
	waiting  backlog
	alarm    *time.Timer    // has it looked at, at due
	due      time.Time      // no later than the first of it expires; zero: not before something is said
	inFlight fifo[outgoing] // of QoS 1 and 2, by their identifiers
	unacked  int            // bytes of it
	stall    *time.Timer    // runs while the window is full
	heard    time.Time      // when something was acknowledged, or it began to run
	queued   fifo[outgoing] // of QoS 0, with the guard
	lastID   uint16
	aliases  aliases
	count    uint64
}

func newClient(b *Broker, conn net.Conn) *client {
	c := &client{broker: b, socket: conn, window: sendWindow, waiting: backlog{all: b.Queued}}
	c.Conn = guard.New(conn, b.limits, c.acknowledged)
	c.OnRoom(c.resume)
	return c
}

// certificates is the verified chain of the client's certificate, leaf first,
// if it showed one: the door has a connection over TLS say so.
func (c *client) certificates() []*x509.Certificate {
	over, ok := c.socket.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	if chains := over.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0]
	}
	return nil
}

// serve runs the connection until it ends.
func (c *client) serve() {
	err := c.converse()
	_ = c.Close()
	c.gone(err)
}

// gone ends the session, and waits until nothing of the connection is left. It is
// apart from serve, whose stack every idle connection holds.
func (c *client) gone(err error) {
	if guarded := c.Conn.Err(); guarded != nil {
		err = guarded
	} else if ended := c.ended.Load(); ended != nil {
		err = errors.New(ended.text)
	}
	remote, why := c.RemoteAddr().String(), "left"
	if err != nil {
		why = err.Error()
	}
	if c.session == nil {
		c.broker.Logger.Debug("not connected", "remote", remote, "via", viaMQTT, "why", why)
	} else {
		reason, left := c.Left()
		c.broker.Logger.Debug("disconnected", "conn", c.session.name, "peer", c.session.peer, "remote", remote, "left", left, "why", why)
		c.session.lostBy(why)
		// A DISCONNECT is a leave, which withdraws the will unless its reason is
		// 0x04 (MQTT 5, 3.14.2.1).
		c.session.close(left, !left || reason == packets.CodeDisconnectWillMessage.Code, nil)
	}
	<-c.Done()
	c.mu.Lock()
	c.waiting.removeAll(func(*outgoing) bool { return true }) // it takes nothing more
	c.rest()
	c.mu.Unlock()
}

// subscribe makes the subscriptions of a SUBSCRIBE. A filter that asks for what
// stands counts as a message, before the cork: the budget may be waited for.
func (c *client) subscribe(pk packets.Packet) {
	over := make([]*topics.Error, len(pk.Filters))
	for i, f := range pk.Filters {
		if c.asksWhatStands(f) {
			over[i] = c.session.spend(c.session.messages, "messages")
		}
	}
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
	c.acks, c.refusal = c.acks[:0], ""
	for i, f := range pk.Filters {
		var err error
		if over[i] != nil {
			err = over[i]
		} else {
			err = c.add(subscription{
				text: f.Filter, qos: f.Qos, id: f.Identifier,
				noLocal: f.NoLocal, retain: f.RetainAsPublished, handling: f.RetainHandling,
			})
		}
		ack := f.Qos
		if err != nil {
			e := topics.AsError(err)
			ack = subackCode(e, c.Version())
			c.refusal = e.Message
			c.broker.Logger.Info("subscription refused", "conn", c.session.name, "peer", c.session.peer, "filter", f.Filter, "why", e.Message)
		}
		c.acks = append(c.acks, ack)
	}
}

// asksWhatStands reports whether a filter may be answered with presences, or what
// is retained outside the rooms.
func (c *client) asksWhatStands(f packets.Subscription) bool {
	filter, err := c.broker.Root.ParseFilter(f.Filter)
	return f.RetainHandling != 2 && (errors.Is(err, topics.ErrOutside) || err == nil && filter.Covers(topics.Presence))
}

// add makes a subscription. Of each filter one snapshot waits, the newest.
func (c *client) add(sub subscription) error {
	c.mu.Lock()
	turn := c.count
	c.mu.Unlock()
	if err := c.session.subscribe(sub); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting.renewed(sub.text, turn) {
		c.withdraw(func(out *outgoing) bool { return out.turn <= turn && out.how.stood == sub.text })
	}
	return nil
}

// remove removes a subscription, with the snapshot that waits for it, and reports
// whether there was one.
func (c *client) remove(filter string) bool {
	was := c.session.unsubscribe(filter)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting.snapshots > 0 {
		c.withdraw(func(out *outgoing) bool { return out.how.stood == filter })
	}
	return was
}

// subackCode is the reason code of a filter that is refused (MQTT 5, 3.9.3; MQTT
// 3.1.1 knows one only).
func subackCode(e *topics.Error, version byte) byte {
	switch {
	case version < 5:
		return packets.ErrUnspecifiedError.Code
	case e.Code == topics.Forbidden:
		return packets.ErrNotAuthorized.Code
	case e.Code == topics.BadRequest:
		return packets.ErrTopicFilterInvalid.Code
	case e.Code == topics.Busy, e.Code == topics.RateLimited:
		return packets.ErrQuotaExceeded.Code
	default:
		return packets.ErrUnspecifiedError.Code
	}
}

// uncork lets go what waited for the SUBACK.
func (c *client) uncork() {
	c.mu.Lock()
	c.corked = false
	expired := c.pump()
	c.mu.Unlock()
	c.tellExpired(expired)
}

// end tells the client why and closes the connection, without waiting for it.
// MQTT 3.1.1 has no words for it.
func (c *client) end(why end) {
	c.ended.CompareAndSwap(nil, &why)
	if mochi := c.mochi.Load(); mochi != nil && c.Version() >= 5 {
		_ = mochi.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  why.code,
			Properties:  packets.Properties{ReasonString: why.text},
		})
	}
	_ = c.Close()
}
