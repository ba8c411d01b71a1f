package broker

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/broker/guard"
	"github.com/beckon-rtc/beckon/topics"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// sendWindow is how many messages of QoS 1 and 2 a client may leave
// unacknowledged before further ones wait (MQTT 5, 4.9), unless it asked for
// fewer.
const sendWindow = 1024

// client is one MQTT connection: what mochi reads from and writes to, and the
// receiver of its session.
//
// It numbers and counts its outgoing messages itself. mochi has one space of
// packet identifiers for both directions, in which a client's publish deletes
// the broker's unacknowledged one.
type client struct {
	*guard.Conn
	broker  *Broker
	socket  net.Conn                    // as the door handed it in
	mochi   atomic.Pointer[mqtt.Client] // nil until its CONNACK was written
	id      string                      // by which mochi knows it; set with session, by the reading goroutine
	session *Session                    // nil before CONNECT was accepted

	// Of the packet that is being answered; only the reading goroutine uses them.
	refused     *refusal
	acks        []byte // reason codes of a SUBACK or UNSUBACK
	refusal     string // what the SUBACK says in words
	askedExpiry bool   // the client asked for a session that outlives the connection

	mu       sync.Mutex // guards what follows
	window   int
	corked   bool        // a SUBACK has to go first
	waiting  []*outgoing // for the cork, the window, or room in the guard's queue
	bytes    int         // of what is waiting
	inFlight map[uint16]*outgoing
	queued   []*outgoing // of QoS 0, with the guard
	lastID   uint16
	count    uint64
}

// refusal is what a publish of the client met with.
type refusal struct {
	id  uint16
	err *topics.Error
}

// outgoing is a message on its way to a client.
type outgoing struct {
	m    *message
	how  reception
	at   time.Time
	turn uint64 // the order in which they came
	step step
	end  uint64 // where it ends in the stream of the guard
}

// step is what an outgoing message waits for.
type step byte

const (
	awaitTurn step = iota
	awaitPuback
	awaitPubrec
	awaitPubcomp
)

func newClient(b *Broker, conn net.Conn) *client {
	c := &client{broker: b, socket: conn, window: sendWindow}
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
	err := c.establish()
	_ = c.Close()
	if guarded := c.Conn.Err(); guarded != nil {
		err = guarded
	}
	remote := c.RemoteAddr().String()
	if c.session == nil {
		c.broker.Logger.Debug("not connected", "remote", remote, "via", viaMQTT, "why", fmt.Sprint(err))
	} else {
		_, left := c.Left()
		c.broker.Logger.Debug("disconnected", "conn", c.session.name, "peer", c.session.peer, "remote", remote, "left", left, "why", fmt.Sprint(err))
		// A DISCONNECT is a leave, which withdraws the will unless its reason is
		// 0x04 (MQTT 5, 3.14.2.1).
		reason, left := c.Left()
		c.session.close(left, !left || reason == packets.CodeDisconnectWillMessage.Code)
		// mochi forgets a client only when all went well.
		c.broker.engine.Clients.Delete(c.id)
	}
	<-c.Done()
}

// establish hands the connection to mochi, whose panics end this connection
// only.
func (c *client) establish() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			c.broker.Logger.Error("the MQTT engine failed; the connection is closed", "remote", c.RemoteAddr().String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	return c.broker.engine.EstablishConnection("", c)
}

// publish takes a publish of the client to its room.
func (c *client) publish(pk packets.Packet) {
	c.refused = nil
	topic := pk.TopicName
	if strings.HasPrefix(topic, hidden+"$") {
		topic = topic[len(hidden):]
	}
	a, err := c.broker.Root.Parse(topic)
	m := &message{
		Delivery:   topics.Delivery{Address: a, Payload: pk.Payload},
		topic:      topic,
		qos:        pk.FixedHeader.Qos,
		retained:   pk.FixedHeader.Retain,
		properties: travelling(pk.Properties),
	}
	switch {
	case errors.Is(err, topics.ErrOutside):
		if err := c.broker.outside.publish(c.session, m); err != nil {
			c.refuse(pk, err)
		}
		return
	case err != nil: // malformed
	case pk.FixedHeader.Retain && a.Kind != topics.Presence:
		err = topics.Errorf(topics.BadRequest, "only a presence is retained, under peers/, not %q", topic)
	default:
		err = c.session.publish(m)
	}
	if err != nil {
		c.refuse(pk, topics.AsError(err))
		c.tell(a.Room, c.refused.err)
	}
}

// refuse notes why a publish failed, for its acknowledgement.
func (c *client) refuse(pk packets.Packet, err *topics.Error) {
	c.refused = &refusal{pk.PacketID, err}
}

// tell sends an error to the client's inbox in a room, if it has one there.
func (c *client) tell(room string, err *topics.Error) {
	r := c.broker.enter(room, false)
	if r == nil {
		return
	}
	defer r.leave()
	if in := r.members[c.session]; in != nil {
		r.tell(in, err.Payload(), topics.TypeError)
	}
}

// travelling returns the properties of a publish that go with it to its
// receivers (MQTT 5, 3.3.2.3), nil if there are none.
func travelling(p packets.Properties) *packets.Properties {
	t := packets.Properties{
		PayloadFormat:         p.PayloadFormat,
		PayloadFormatFlag:     p.PayloadFormatFlag,
		MessageExpiryInterval: p.MessageExpiryInterval,
		ContentType:           p.ContentType,
		ResponseTopic:         p.ResponseTopic,
		CorrelationData:       p.CorrelationData,
		User:                  p.User,
	}
	if !t.PayloadFormatFlag && t.MessageExpiryInterval == 0 && t.ContentType == "" && t.ResponseTopic == "" && t.CorrelationData == nil && t.User == nil {
		return nil
	}
	return &t
}

// subscribe makes the subscriptions of a SUBSCRIBE.
func (c *client) subscribe(pk packets.Packet) {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
	c.acks, c.refusal = c.acks[:0], ""
	for _, f := range pk.Filters {
		err := c.session.subscribe(subscription{
			text: f.Filter, qos: f.Qos, id: f.Identifier,
			noLocal: f.NoLocal, retain: f.RetainAsPublished, handling: f.RetainHandling,
		})
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
	case e.Code == topics.Busy:
		return packets.ErrQuotaExceeded.Code
	default:
		return packets.ErrUnspecifiedError.Code
	}
}

// uncork lets go what waited for the SUBACK.
func (c *client) uncork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	c.pump()
}

// deliver sends m to the client, or queues it. What is retained is not counted: a
// snapshot comes once, its payloads are the room's, and it has to fit.
func (c *client) deliver(m *message, how reception) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	mochi := c.mochi.Load()
	if mochi == nil || mochi.Closed() {
		return errClosed
	}
	if m.topic == "" { // deliveries of a message are made one after the other, by its room
		m.topic = c.broker.Root.Topic(m.Address)
	}
	c.count++
	out := &outgoing{m: m, how: how, at: time.Now(), turn: c.count}
	if len(c.waiting) == 0 && c.may(out) {
		if err := c.write(out); err != errFull || !out.snapshot() {
			return err
		}
	}
	if !out.snapshot() && c.bytes+out.size() > c.broker.Queue {
		return errFull
	}
	c.bytes += out.size()
	c.waiting = append(c.waiting, out)
	return nil
}

// snapshot reports whether the message stood before the client subscribed.
func (o *outgoing) snapshot() bool { return o.how.retain && o.m.retained }

// size is what the message counts for in the limit of what waits, in bytes.
func (o *outgoing) size() int {
	if o.snapshot() {
		return 0
	}
	return len(o.m.Payload) + len(o.m.topic)
}

func (o *outgoing) qos() byte { return min(o.m.qos, o.how.qos) }

// may reports whether out can be written now.
func (c *client) may(out *outgoing) bool {
	return !c.corked && (out.qos() == 0 || len(c.inFlight) < c.window)
}

// resume is called by the guard when its queue has room again.
func (c *client) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pump()
}

// pump writes what waits, as far as it may and there is room; the guard calls
// again when there is more. c.mu is held.
func (c *client) pump() {
	for len(c.waiting) > 0 && c.may(c.waiting[0]) {
		out := c.waiting[0]
		if c.write(out) == errFull {
			return
		}
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		c.bytes -= out.size()
	}
	if len(c.waiting) == 0 {
		c.waiting = nil
	}
}

// write writes a PUBLISH. c.mu is held.
func (c *client) write(out *outgoing) error {
	m, mochi := out.m, c.mochi.Load()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: out.qos(), Retain: out.how.retain && m.retained},
		TopicName:   m.topic,
		Payload:     m.Payload,
	}
	if m.properties != nil {
		pk.Properties = *m.properties
		if expiry := int64(m.properties.MessageExpiryInterval); expiry > 0 { // MQTT 5, 3.3.2.3.3
			pk.Properties.MessageExpiryInterval = uint32(max(1, expiry-int64(time.Since(out.at)/time.Second)))
		}
	}
	pk.Properties.SubscriptionIdentifier = out.how.ids
	if pk.FixedHeader.Qos > 0 {
		pk.PacketID = c.number(out)
	}
	err := mochi.WritePacket(pk)
	if err == nil {
		if pk.PacketID == 0 {
			c.remember(out)
		}
		return nil
	}
	delete(c.inFlight, pk.PacketID)
	switch {
	case errors.Is(err, guard.ErrQueueFull):
		return errFull
	case errors.Is(err, packets.ErrPacketTooLarge):
		return topics.Errorf(topics.TooLarge, "the message has %d bytes, more than %s takes in a packet (Maximum Packet Size %d)",
			len(m.Payload), c.session.peer, mochi.Properties.Props.MaximumPacketSize)
	default:
		return errClosed
	}
}

// number gives out the next packet identifier that is free. The window is smaller
// than the space of identifiers, so there is one.
func (c *client) number(out *outgoing) uint16 {
	if c.inFlight == nil {
		c.inFlight = make(map[uint16]*outgoing)
	}
	for {
		c.lastID++
		if _, taken := c.inFlight[c.lastID]; c.lastID != 0 && !taken {
			break
		}
	}
	out.step = awaitPuback
	if out.qos() == 2 {
		out.step = awaitPubrec
	}
	c.inFlight[c.lastID] = out
	return c.lastID
}

// remember keeps a message of QoS 0 until the guard has handed it to the socket.
func (c *client) remember(out *outgoing) {
	written := c.Written()
	for len(c.queued) > 0 && c.queued[0].end <= written {
		c.queued[0] = nil
		c.queued = c.queued[1:]
	}
	if out.m.Kind != topics.Direct {
		return // nobody is told of the others
	}
	out.end = c.Queued()
	c.queued = append(c.queued, out)
}

// undelivered takes back what was said to the client in a room and did not leave,
// or was not acknowledged.
func (c *client) undelivered(room string) []*message {
	c.mu.Lock()
	defer c.mu.Unlock()
	var back []*outgoing
	take := func(out *outgoing) bool {
		if out.m.Room != room || out.m.Kind != topics.Direct || out.m.Dst != c.session.peer ||
			out.m.Type == topics.TypeHello || out.m.Type == topics.TypeICE {
			return false
		}
		back = append(back, out)
		return true
	}
	for _, out := range c.inFlight {
		if out.step != awaitPubcomp && take(out) { // of the others, PUBREC has come
			out.m.handed = true
		}
	}
	written := c.Written()
	for _, out := range c.queued {
		if out.end > written {
			take(out)
		}
	}
	c.waiting = slices.DeleteFunc(c.waiting, take)
	slices.SortFunc(back, func(a, b *outgoing) int { return cmp.Compare(a.turn, b.turn) })
	messages := make([]*message, len(back))
	for i, out := range back {
		messages[i] = out.m
	}
	return messages
}

// acknowledged is called by the guard with what the client acknowledges.
func (c *client) acknowledged(ack guard.Ack) {
	if c.mochi.Load() == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.inFlight[ack.ID]
	now := awaitTurn
	if out != nil {
		now = out.step
	}
	switch {
	case ack.Type == packets.Puback && now == awaitPuback,
		ack.Type == packets.Pubcomp && now == awaitPubcomp,
		ack.Type == packets.Pubrec && now == awaitPubrec && ack.Reason >= packets.ErrUnspecifiedError.Code:
		delete(c.inFlight, ack.ID)
	case ack.Type == packets.Pubrec && (now == awaitPubrec || now == awaitPubcomp):
		out.step = awaitPubcomp
		c.release(ack.ID, packets.CodeSuccess)
	case ack.Type == packets.Pubrec && out == nil:
		c.release(ack.ID, packets.ErrPacketIdentifierNotFound)
	}
	c.pump()
}

// release answers a PUBREC [MQTT-4.3.3-4].
func (c *client) release(id uint16, code packets.Code) {
	_ = c.mochi.Load().WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1},
		PacketID:    id,
		ReasonCode:  code.Code,
	})
}

// end tells the client why and closes the connection, without waiting for it.
// MQTT 3.1.1 has no words for it.
func (c *client) end(why end) {
	if mochi := c.mochi.Load(); mochi != nil && c.Version() >= 5 {
		_ = mochi.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  why.code,
			Properties:  packets.Properties{ReasonString: why.text},
		})
	}
	_ = c.Close()
}
