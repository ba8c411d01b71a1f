package broker

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/beckon-rtc/beckon/broker/guard"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/mochi-mqtt/server/v2/packets"
)

// outgoing is a message on its way to a client.
type outgoing struct {
	m    *message
	how  reception
	turn uint64 // the order in which they came
	size int    // of its packet, or of what it keeps if that is more, in bytes
	end  uint64 // where it ends in the stream of the guard
	id   uint16 // packet identifier, of QoS 1 and 2
	step step
	back bool // it was taken back: the next connection has it

	alias uint16 // stands for the topic, 0: none does
	known bool   // to the client, which has no need of the topic then
}

// step is what an outgoing message waits for.
type step byte

const (
	awaitTurn step = iota
	awaitPuback
	awaitPubrec
	awaitPubcomp
)

// deliver sends m to the client, or queues it, or says why it does neither: then it
// has not been there. What was taken is sent, or given back to its room when the
// connection has ended (undelivered), or, if it expired while it waited, its sender
// is told (pump, tellExpired). Nothing else is found out about it later.
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
	out := outgoing{m: m, how: how, turn: c.count}
	out.size = publishSize(c.Version(), &out)
	switch {
	case c.largest > 0 && uint64(out.size) > uint64(c.largest): // [MQTT-3.1.2-24]
		return topics.Errorf(topics.TooLarge, "the message has %d bytes, more than %s takes in a packet (Maximum Packet Size %d)",
			len(m.Payload), c.session.peer, c.largest)
	case out.size > c.broker.Queue: // it would wait for ever
		return topics.Errorf(topics.TooLarge, "the message is a packet of %d bytes for %s, and the server lets %d wait for a connection",
			out.size, c.session.peer, c.broker.Queue)
	}
	out.size = max(out.size, m.weight()) // MQTT 3.1.1 has no properties, which are kept all the same
	if c.waiting.empty() && c.may(&out) {
		if err := c.write(&out); err != errFull || !out.snapshot() {
			return err
		}
	}
	if !c.waiting.fits(&out, c.broker.Queue) {
		return errFull
	}
	c.waiting.push(out)
	if !m.expires.IsZero() {
		c.lookBy(m.expires)
	}
	c.watch()
	return nil
}

// snapshot reports whether the message stood before the client subscribed.
func (o *outgoing) snapshot() bool { return o.how.stood != "" }

// topic is what the packet says of the topic: nothing, when its alias is known.
func (o *outgoing) topic() string {
	if o.known {
		return ""
	}
	return o.m.topic
}

func (o *outgoing) qos() byte { return min(o.m.qos, o.how.qos) }

// may reports whether out can be written now.
func (c *client) may(out *outgoing) bool {
	return !c.corked && (out.qos() == 0 || c.fits(out))
}

// withdraw takes out of what waits all that is: it was given back to its room, or may
// not or need not be sent any more. What waited behind it goes on, but not by the
// caller, who may hold the lock of a room, which telling what expired takes. c.mu is
// held.
func (c *client) withdraw(is func(*outgoing) bool) {
	c.waiting.removeAll(is)
	if !c.waiting.empty() {
		c.lookBy(time.Now())
	}
}

// narrow takes out what the client may not read by now.
func (c *client) narrow(id topics.Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.withdraw(func(out *outgoing) bool {
		m := out.m
		if m.Room == "" {
			return !id.MaySubscribeOutside(m.topic)
		}
		if m.Kind == topics.Direct && m.Dst == c.session.peer {
			// Its room has taken back the rest; and credentials are for who is there.
			return m.Src == topics.Server && m.Type != topics.TypeError && !id.MayJoin(m.Room)
		}
		exactly, err := c.broker.Root.ParseFilter(m.topic)
		return err != nil || !id.MaySubscribe(exactly)
	})
}

// lookBy has what waits looked at, at that time at the latest. c.mu is held.
func (c *client) lookBy(at time.Time) {
	if !c.due.IsZero() && !at.Before(c.due) {
		return
	}
	c.due = at
	if c.alarm == nil {
		c.alarm = time.AfterFunc(max(time.Until(at), 0), c.resume)
		return
	}
	c.alarm.Reset(max(time.Until(at), 0))
}

// resume is called when what waits may go on: by the guard, when its queue has room
// again, and by the alarm.
func (c *client) resume() {
	c.mu.Lock()
	expired := c.pump()
	c.mu.Unlock()
	c.tellExpired(expired)
}

// pump writes what waits, as far as it may and there is room; the guard calls
// again when there is more. What has expired it takes out, wherever it stands. When
// the connection has ended, what waits is left for its room to take back. c.mu is
// held; what expired while it waited is for the caller to tell of without it, since
// that is the room's to do.
func (c *client) pump() (expired []*message) {
	if !c.due.IsZero() && !time.Now().Before(c.due) {
		var next time.Time
		expired, next = c.waiting.expire()
		c.due = time.Time{}
		if !next.IsZero() {
			c.lookBy(next)
		}
	}
	for !c.waiting.empty() && c.may(c.waiting.first()) {
		out := *c.waiting.first()
		if c.write(&out) != nil {
			break
		}
		c.waiting.shift()
	}
	c.watch()
	return expired
}

// tellExpired tells the senders of what was for the client's peer and came too late.
func (c *client) tellExpired(all []*message) {
	for _, m := range all {
		if m.Kind == topics.Direct && m.Room != "" && m.Dst == c.session.peer {
			c.broker.tellExpired(m)
		}
	}
}

// write writes a PUBLISH, or says errFull or errClosed. c.mu is held.
func (c *client) write(out *outgoing) error {
	if out.qos() > 0 {
		c.number(out)
	}
	out.alias, out.known = c.aliases.find(out.m.topic)
	if !out.known && !c.holds(out.size+aliasSpace) {
		out.alias = 0
	}
	var space [headSpace]byte
	head := appendPublish(space[:0], c.Version(), out)
	switch err := c.Send(head, out.m.Payload); {
	case errors.Is(err, guard.ErrQueueFull):
		return errFull
	case err != nil:
		return errClosed
	}
	if out.alias > 0 && !out.known {
		c.aliases.keep(out.m.topic, out.alias)
	}
	out.end = c.Queued()
	if out.qos() > 0 {
		c.lastID = out.id
		c.inFlight.push(*out)
		c.unacked += out.size
	} else {
		c.remember(out)
	}
	return nil
}

// holds reports whether a packet of that size is one that the client takes and its
// queue has room for when it is empty.
func (c *client) holds(size int) bool {
	return (c.largest == 0 || uint64(size) <= uint64(c.largest)) && size <= c.broker.Queue
}

// number gives out the next packet identifier that is free. The window is smaller
// than the space of identifiers, so there is one.
func (c *client) number(out *outgoing) {
	out.id = c.lastID + 1
	for out.id == 0 || c.sent(out.id) >= 0 {
		out.id++
	}
	out.step = awaitPuback
	if out.qos() == 2 {
		out.step = awaitPubrec
	}
}

// sent is the place of an unacknowledged message in inFlight, -1 if there is none
// of that identifier. It is most often the first.
func (c *client) sent(id uint16) int {
	return slices.IndexFunc(c.inFlight.items(), func(out outgoing) bool { return out.id == id })
}

// remember keeps a message of QoS 0 until the guard has handed it to the socket.
func (c *client) remember(out *outgoing) {
	written := c.Written()
	for !c.queued.empty() && c.queued.items()[0].end <= written {
		c.queued.remove(0)
	}
	if out.m.Kind != topics.Direct {
		return // nobody is told of the others
	}
	c.queued.push(*out)
}

// undelivered takes back what was said to the client in a room and did not leave,
// or was not acknowledged.
func (c *client) undelivered(room string) []*message {
	c.mu.Lock()
	defer c.mu.Unlock()
	var back []outgoing
	take := func(out *outgoing) bool {
		if out.back || out.m.Room != room || out.m.Dst != c.session.peer || !out.m.lasting() {
			return false
		}
		out.back = true
		back = append(back, *out)
		return true
	}
	sent := c.inFlight.items()
	for i := range sent {
		if out := &sent[i]; out.step != awaitPubcomp && take(out) { // of the others, PUBREC has come
			out.m.handed = true
		}
	}
	written, queued := c.Written(), c.queued.items()
	for i := range queued {
		if out := &queued[i]; out.end > written {
			take(out)
		}
	}
	c.withdraw(take)
	slices.SortFunc(back, func(a, b outgoing) int { return cmp.Compare(a.turn, b.turn) })
	messages := make([]*message, len(back))
	for i, out := range back {
		messages[i] = out.m
	}
	return messages
}

// acknowledged is called by the guard with what the client acknowledges.
func (c *client) acknowledged(ack guard.Ack) (awaited bool) {
	if c.mochi.Load() == nil {
		return false
	}
	c.mu.Lock()
	awaited = c.settle(ack)
	expired := c.pump()
	c.mu.Unlock()
	c.tellExpired(expired)
	return awaited
}

// settle does what an acknowledgement asks for. Awaited is one that a message goes on
// by: any other is a packet like others, and no sign of life. c.mu is held.
func (c *client) settle(ack guard.Ack) (awaited bool) {
	i, now := c.sent(ack.ID), awaitTurn
	if i >= 0 {
		now = c.inFlight.items()[i].step
	}
	switch {
	case ack.Type == packets.Puback && now == awaitPuback,
		ack.Type == packets.Pubcomp && now == awaitPubcomp,
		ack.Type == packets.Pubrec && now == awaitPubrec && ack.Reason >= packets.ErrUnspecifiedError.Code:
		c.unacked -= c.inFlight.items()[i].size
		c.inFlight.remove(i)
		awaited = true
	case ack.Type == packets.Pubrec && (now == awaitPubrec || now == awaitPubcomp):
		awaited = now == awaitPubrec
		c.inFlight.items()[i].step = awaitPubcomp
		c.release(ack.ID, packets.CodeSuccess)
	case ack.Type == packets.Pubrec && i < 0 && ack.Reason < packets.ErrUnspecifiedError.Code:
		c.release(ack.ID, packets.ErrPacketIdentifierNotFound)
	}
	if c.stall != nil && awaited {
		c.heard = time.Now()
	}
	return awaited
}

// release answers a PUBREC that did not refuse the message [MQTT-4.3.3-4]. An answer
// that finds no room ends the connection.
func (c *client) release(id uint16, code packets.Code) {
	if err := c.mochi.Load().WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1},
		PacketID:    id,
		ReasonCode:  code.Code,
	}); err != nil {
		_ = c.Close()
	}
}
