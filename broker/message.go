package broker

import (
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/mochi-mqtt/server/v2/packets"
)

// message is what travels through a room: a delivery, and what only MQTT
// clients see of it.
type message struct {
	topics.Delivery
	topic      string              // the address as a topic; made when first needed
	qos        byte                // as published
	retained   bool                // as published
	properties *packets.Properties // of MQTT 5 that travel with it; nil for none
	sender     *Session            // nil when the server says it
	opens      bool                // it began its session
	handed     bool                // a connection was handed it, and did not acknowledge it
	personal   bool                // an error about the connection, not about a message
	expires    time.Time           // by its Message Expiry Interval (MQTT 5, 3.3.2.3.3); zero: never
}

// arrive is called when the message is published, from when its expiry counts.
func (m *message) arrive() {
	if m.properties != nil && m.properties.MessageExpiryInterval > 0 {
		m.expires = time.Now().Add(time.Duration(m.properties.MessageExpiryInterval) * time.Second)
	}
}

// expired reports whether it is too late to begin to deliver it [MQTT-3.3.2-5].
func (m *message) expired() bool { return !m.expires.IsZero() && !time.Now().Before(m.expires) }

// weight is how many bytes m keeps, but for a little.
func (m *message) weight() int {
	n := len(m.topic) + len(m.Payload)
	if p := m.properties; p != nil {
		n += len(p.ContentType) + len(p.ResponseTopic) + len(p.CorrelationData)
		for _, user := range p.User {
			n += len(user.Key) + len(user.Val)
		}
	}
	return n
}

// lasting reports whether the message is also for the next connection of its
// receiver, which is told afresh who is there, and what hello says.
func (m *message) lasting() bool {
	switch {
	case m.Kind != topics.Direct:
		return false
	case m.Src == topics.Server:
		return m.Type == topics.TypeError && !m.personal
	}
	return true
}

// receiver is the door's end of a session.
type receiver interface {
	// deliver takes a message, as r says, without waiting. The error is
	// errClosed, errFull or another [*topics.Error].
	deliver(m *message, r reception) error
	// undelivered takes back what was accepted for a room and has not left, in
	// order, as far as it is known.
	undelivered(room string) []*message
	// end closes the connection for a reason that the client is told.
	end(why end)
}

// reception is how a session gets a message: what its subscriptions say.
type reception struct {
	qos    byte
	ids    []int // subscription identifiers (MQTT 5, 3.8.2.1.2)
	retain bool
	stood  string // the filter that it stood for when that was subscribed to; "" for what is said now
}

var (
	errClosed error = topics.Errorf(topics.Unavailable, "the connection is closed")
	errFull   error = topics.Errorf(topics.Busy, "the connection's queue is full")
)

// end is why the server ends a connection.
type end struct {
	code byte // reason code of an MQTT 5 DISCONNECT, 3.14.2.1
	text string
	why  *topics.Error // for a door that is to end the connection; nil if it knows already
}

var (
	endReplaced = end{code: 0x8E, text: "another connection of the same identity took over"}
	endShutdown = end{code: 0x8B, text: "the server is shutting down"}
	endSlow     = end{code: 0x97, text: errSlow.Message, why: errSlow}

	errSlow = topics.Errorf(topics.Busy, "the connection does not take what it subscribed to")
)
