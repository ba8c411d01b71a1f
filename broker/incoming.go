package broker

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// converse takes what the client says until it leaves, or there is an error. A
// panic of mochi ends this connection only.
func (c *client) converse() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			c.broker.Logger.Error("the MQTT engine failed; the connection is closed", "remote", c.RemoteAddr().String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	first, err := c.Next() // here, not where it takes 2.5 KiB of stack to answer it: many wait for theirs
	if err != nil {
		return err
	}
	mochi, err := c.connect(first)
	if err != nil {
		return err
	}
	defer mochi.Stop(nil)
	for {
		packet, err := c.Next()
		if err != nil {
			return err
		}
		switch kind, qos := packet[0]>>4, packet[0]>>1&3; {
		case kind == packets.Publish && qos < 2:
			if err := c.published(packet); err != nil {
				return err
			}
		case kind == packets.Pingreq:
			if err := c.answer([]byte{packets.Pingresp << 4, 0}); err != nil {
				return err
			}
		case kind == packets.Disconnect:
			return nil
		default:
			if err := c.pass(mochi, packet); err != nil {
				return err
			}
		}
	}
}

// connect answers packet, the CONNECT.
func (c *client) connect(packet []byte) (*mqtt.Client, error) {
	engine := c.broker.engine
	mochi := engine.NewClient(c, "", "", false)
	pk, err := c.read(mochi, packet)
	if err != nil {
		return nil, err
	}
	if pk.Connect.WillFlag && len(pk.Connect.WillPayload) == 0 {
		pk.Connect.WillPayload = emptyWill // which is how a peer leaves; mochi takes none
	}
	code := pk.ConnectValidate()
	if pk.ProtocolVersion < 5 && !pk.Connect.Clean && pk.Connect.ClientIdentifier == "" { // 3.1.1: [MQTT-3.1.3-8]
		code = packets.ErrClientIdentifierNotValid
	}
	mochi.ParseConnect("", pk)
	if code == packets.CodeSuccess {
		if err = c.admit(mochi, pk); err != nil {
			code = connackCode(err)
			code.Reason = topics.AsError(err).Message
		}
	} else {
		err = code
	}
	if sent := engine.SendConnack(mochi, code, false, nil); err == nil {
		err = sent
	}
	if err != nil {
		mochi.Stop(err)
		return nil, err
	}
	c.largest = mochi.Properties.Props.MaximumPacketSize
	c.mochi.Store(mochi) // only now may anything else be written
	return mochi, nil
}

// read has mochi read a packet.
func (c *client) read(mochi *mqtt.Client, packet []byte) (packets.Packet, error) {
	c.packet = packet
	var head packets.FixedHeader
	if err := mochi.ReadFixedHeader(&head); err != nil {
		return packets.Packet{}, err
	}
	return mochi.ReadPacket(&head)
}

// Read gives mochi the packet that it is to read.
func (c *client) Read(p []byte) (int, error) {
	if len(c.packet) == 0 {
		return 0, errors.New("broker: mochi reads more than a packet")
	}
	n := copy(p, c.packet)
	c.packet = c.packet[n:]
	return n, nil
}

// pass has mochi answer a packet.
func (c *client) pass(mochi *mqtt.Client, packet []byte) error {
	pk, err := c.read(mochi, packet)
	if err != nil {
		return err
	}
	if pk.FixedHeader.Type == packets.Publish && strings.HasPrefix(pk.TopicName, "$") {
		pk.TopicName = hidden + pk.TopicName // which it would drop without an acknowledgement
	}
	err = c.broker.engine.InjectPacket(mochi, pk)
	if code, ok := err.(packets.Code); ok && c.Version() >= 5 && code.Code >= packets.ErrUnspecifiedError.Code {
		_ = c.broker.engine.DisconnectClient(mochi, code)
	}
	return err
}

// answer writes an answer to the client. One that finds no room has no other way to
// come, and its client would wait for it for ever: an error is to end the connection.
func (c *client) answer(packet []byte) error {
	_, err := c.Write(packet)
	if err != nil {
		return fmt.Errorf("an answer: %w", err)
	}
	return nil
}

// published takes a PUBLISH of QoS 0 or 1. An error is to end the connection.
func (c *client) published(packet []byte) error {
	pub := parsePublish(packet, c.Version())
	refused := c.publish(&message{
		Delivery:   topics.Delivery{Payload: append([]byte(nil), pub.payload...)},
		topic:      c.named(pub.topic),
		qos:        pub.qos,
		retained:   pub.retain,
		properties: pub.travelling(),
	})
	if pub.qos == 1 {
		return c.puback(pub.id, refused)
	}
	return nil
}

// named is the topic as a string. Most often it is that of the last publish.
func (c *client) named(topic []byte) string {
	if string(topic) != c.topic {
		c.topic = string(topic)
	}
	return c.topic
}

// puback answers a publish of QoS 1.
func (c *client) puback(id uint16, refused *topics.Error) error {
	if refused != nil && c.Version() >= 5 {
		return c.refuse(id, refused)
	}
	return c.answer([]byte{packets.Puback << 4, 2, byte(id >> 8), byte(id)})
}

// refuse says in a PUBACK why a publish was refused. mochi leaves out a reason code
// below 0x80 unless properties follow it, for which the client may have no room or
// use. That one is written here.
func (c *client) refuse(id uint16, refused *topics.Error) error {
	code := refused.Code.MQTT()
	wordless := []byte{packets.Puback << 4, 3, byte(id >> 8), byte(id), code}
	if code < packets.ErrUnspecifiedError.Code {
		return c.answer(wordless)
	}
	err := c.mochi.Load().WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback},
		PacketID:    id,
		ReasonCode:  code,
		Properties:  packets.Properties{ReasonString: refused.Message},
	})
	if err == error(packets.ErrPacketTooLarge) { // for the client, words and all [MQTT-3.4.2-2]
		return c.answer(wordless)
	}
	return err
}

// publish takes a message of the client to its room, and says why it was refused,
// nil if it was not.
func (c *client) publish(m *message) *topics.Error {
	m.arrive()
	a, err := c.broker.Root.Parse(m.topic)
	m.Address = a
	isOutside := errors.Is(err, topics.ErrOutside)
	var said topics.Reading
	if !isOutside {
		said, _ = topics.Read(m.Payload, nil)
	}
	if err == nil && m.retained && a.Kind != topics.Presence {
		err = topics.Errorf(topics.BadRequest, "only a presence is retained, under peers/, not %q", m.topic)
	}
	if err == nil {
		err = c.session.publish(m, &said) // which spends
	} else if over := c.session.spend(c.session.messages, "messages"); over != nil {
		err = over
	} else if isOutside {
		err = c.broker.outside.publish(c.session, m)
	}
	if err == nil {
		return nil
	}
	refused := topics.AsError(err)
	if !isOutside && said.Known().Type != topics.TypeError {
		c.tell(a.Room, refused)
	} // else: a client that says again what it hears would be told of what it was told, for ever
	return refused
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

// stayAlive has the connection end when the client says nothing for one and a
// half times its keep-alive, in seconds [MQTT-3.1.2-22].
func (c *client) stayAlive(keepAlive uint16) {
	_ = c.SetReadDeadline(time.Now().Add(time.Duration(keepAlive) * time.Second * 3 / 2)) // Next finds what has ended
}
