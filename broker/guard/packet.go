package guard

import (
	"slices"
	"strings"
)

// Control packet types (section 2.1.2).
const (
	connect = iota + 1
	connack
	publish
	puback
	pubrec
	pubrel
	pubcomp
	subscribe
	suback
	unsubscribe
	unsuback
	pingreq
	pingresp
	disconnect
	auth
)

const names = "reserved CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH"

// An Ack is what a client answered to a message that was sent to it. The broker
// behind the guard never sees it, so whoever takes a PUBREC owes the PUBREL.
type Ack struct {
	Type   byte   // control packet type: 4 PUBACK, 5 PUBREC, 7 PUBCOMP
	ID     uint16 // packet identifier, never 0
	Reason byte   // reason code of MQTT 5; 0 in 3.1.1
}

// checker knows what of a connection's past its next packet depends on.
type checker struct {
	limits    Limits
	named     bool   // CONNECT has said that it is of MQTT
	level     byte   // protocol level in it, supported or not
	version   byte   // 3, 4 or 5 once a CONNECT was good
	maximum   uint32 // longest packet the client takes, 0: any
	expires   bool   // CONNECT had a session expiry interval other than 0
	exchanges bool   // CONNECT had an authentication method
	left      bool   // DISCONNECT has come
	reason    byte   // why it left
}

// frame finds the first packet of b: the length of its fixed header and, when
// all of it is there, of the whole; 0 until then. What can be refused by its
// first bytes is refused before the rest is waited for.
func (k *checker) frame(b []byte, limit int) (head, size int, bad *Violation) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if bad := k.first(b[0]); bad != nil {
		return 0, 0, bad
	}
	length, n, ok := varint(b[1:])
	switch {
	case !ok:
		return 0, 0, violation(malformed, "%s: remaining length is longer than 4 bytes", name(b[0]>>4))
	case n == 0:
		return 0, 0, nil
	case k.version == 5 && !shortest(length, n): // [MQTT-1.5.5-1]; 3.1.1 does not say
		return 0, 0, violation(malformed, "%s: remaining length takes %d bytes for %d", name(b[0]>>4), n, length)
	}
	head, size = 1+n, 1+n+int(length)
	if size > limit {
		return 0, 0, violation(tooLarge, "%s of %d bytes, at most %d", name(b[0]>>4), size, limit)
	}
	if size > len(b) {
		return head, 0, nil
	}
	return head, size, nil
}

// first checks the type of a packet, whether it may come now, and its flags.
func (k *checker) first(b byte) *Violation {
	kind, flags := b>>4, b&0x0F
	if k.version == 0 && kind != connect { // [MQTT-3.1.0-1]
		return violation(protocolError, "first packet is %s, not CONNECT", name(kind))
	}
	var want byte
	switch kind {
	case connect:
		if k.version != 0 { // [MQTT-3.1.0-2]
			return violation(protocolError, "second CONNECT")
		}
	case publish:
		if flags&0x06 == 0x06 { // [MQTT-3.3.1-4]
			return violation(malformed, "PUBLISH: QoS 3")
		}
		if flags&0x0E == 0x08 { // [MQTT-3.3.1-2]
			return violation(malformed, "PUBLISH: DUP with QoS 0")
		}
		want = flags
	case pubrel, subscribe, unsubscribe:
		want = 0x02 // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
	case puback, pubrec, pubcomp, pingreq, disconnect:
	case auth:
		if k.version != 5 {
			return violation(malformed, "packet of type 15, which is reserved before MQTT 5")
		}
	case connack, suback, unsuback, pingresp:
		return violation(protocolError, "%s from a client", name(kind))
	default:
		return violation(malformed, "packet of type 0")
	}
	if flags != want { // [MQTT-2.1.3-1], in 3.1.1 [MQTT-2.2.2-2]
		return violation(malformed, "%s: flags %04b, not %04b", name(kind), flags, want)
	}
	return nil
}

// check reads a whole packet whose fixed header, head bytes, frame has found
// good. An Ack that has a Type is to be taken out of the stream.
func (k *checker) check(b []byte, head int) (a Ack, bad *Violation) {
	c := cursor{kind: b[0] >> 4, b: b[head:]}
	switch c.kind {
	case connect:
		k.connect(&c)
		if k.level == 5 && !shortest(uint32(len(b)-head), head-1) { // [MQTT-1.5.5-1]
			c.fail(malformed, "remaining length takes %d bytes for %d", head-1, len(b)-head)
		}
		if c.bad == nil {
			k.version = k.level
		}
	case publish:
		k.publish(&c, b[0])
	case puback, pubrec, pubrel, pubcomp:
		a = k.ack(&c)
	case subscribe:
		k.subscribe(&c)
	case unsubscribe:
		k.unsubscribe(&c)
	case pingreq:
		c.end()
	case disconnect:
		k.disconnect(&c)
	case auth:
		k.auth(&c)
	}
	return a, c.bad
}

func (k *checker) connect(c *cursor) {
	protocol := string(c.str("protocol name"))
	level := c.u8("protocol level")
	switch {
	case c.bad != nil:
		return
	case protocol != "MQTT" && protocol != "MQIsdp": // [MQTT-3.1.2-1]
		c.fail(badVersion, "protocol name of %d bytes, it takes MQTT", len(protocol)) // in a packet that is garbled it can be a password
		return
	}
	k.named, k.level = true, level
	if (protocol == "MQTT") != (level == 4 || level == 5) || (protocol == "MQIsdp") != (level == 3) { // [MQTT-3.1.2-2]
		c.fail(badVersion, "protocol level %d of %s is not supported", level, protocol)
		return
	}

	flags := c.u8("connect flags")
	will, user, password := flags&0x04 != 0, flags&0x80 != 0, flags&0x40 != 0
	switch {
	case flags&0x01 != 0: // [MQTT-3.1.2-3]
		c.fail(malformed, "reserved flag is set")
	case flags&0x18 == 0x18: // [MQTT-3.1.2-12], in 3.1.1 [MQTT-3.1.2-14]
		c.fail(malformed, "will QoS 3")
	case !will && flags&0x38 != 0: // [MQTT-3.1.2-11] [MQTT-3.1.2-13], in 3.1.1 -13 and -15
		c.fail(malformed, "will QoS or retain without a will")
	case password && !user && level < 5: // 3.1.1: [MQTT-3.1.2-22]
		c.fail(malformed, "password without a user name")
	}
	c.u16("keep-alive")
	if level == 5 {
		p := k.properties(c, ofConnect)
		if p.has(authData) && !p.has(authMethod) { // 3.1.2.11.10
			c.fail(protocolError, "authentication data without a method")
		}
		k.maximum, k.expires, k.exchanges = p.maximum, p.expiry > 0, p.has(authMethod)
	}
	c.str("client identifier") // [MQTT-3.1.3-4]; whether an empty one will do, the broker answers
	if will {
		if level == 5 {
			k.properties(c, ofWill)
		}
		k.topic(c, "will topic", c.str("will topic")) // [MQTT-3.1.3-11], in 3.1.1 -10
		c.bin("will payload")
	}
	if user {
		c.str("user name") // [MQTT-3.1.3-12], in 3.1.1 -11
	}
	if password {
		c.bin("password")
	}
	c.end()
}

func (k *checker) publish(c *cursor, first byte) {
	topic := c.str("topic") // [MQTT-3.3.2-1]
	if first&0x06 != 0 {
		c.id()
	}
	if k.version == 5 {
		k.properties(c, ofPublish)
		if len(topic) == 0 { // 3.3.2.1: no topic and no alias; an alias is refused before
			c.fail(protocolError, "topic is empty")
		}
	}
	k.topic(c, "topic", topic)
}

// ack reads PUBACK, PUBREC, PUBREL and PUBCOMP. The Ack of a PUBREL has no
// Type: it is part of what the client sends, and handed on.
func (k *checker) ack(c *cursor) (a Ack) {
	codes := "\x00\x10\x80\x83\x87\x90\x91\x97\x99" // [MQTT-3.4.2-1] [MQTT-3.5.2-1]
	if c.kind == pubrel || c.kind == pubcomp {
		codes = "\x00\x92" // [MQTT-3.6.2-1] [MQTT-3.7.2-1]
	}
	id := c.id()
	reason := k.reasonCode(c, codes, ofAck)
	if c.kind == pubrel {
		return Ack{}
	}
	return Ack{Type: c.kind, ID: id, Reason: reason}
}

// reasonCode reads the end of a packet that in MQTT 5 may have a reason code
// and, after it, properties.
func (k *checker) reasonCode(c *cursor, codes string, allowed uint64) (reason byte) {
	if k.version == 5 && len(c.b) > 0 {
		if reason = c.u8("reason code"); strings.IndexByte(codes, reason) < 0 {
			c.fail(protocolError, "reason code 0x%02X is not one of this packet's", reason)
		}
		if len(c.b) > 0 {
			if p := k.properties(c, allowed); c.kind == disconnect && p.expiry > 0 && !k.expires { // 3.14.2.2.2
				c.fail(protocolError, "session expiry interval %d, but CONNECT said 0", p.expiry)
			}
		}
	}
	c.end()
	return reason
}

func (k *checker) subscribe(c *cursor) {
	c.id()
	if k.version == 5 {
		k.properties(c, ofSubscribe)
	}
	for n := 1; k.another(c, n); n++ {
		shared := k.filter(c, c.str("filter")) // [MQTT-3.8.3-1]
		options := c.u8("subscription options")
		switch {
		case c.bad != nil:
		case k.version == 5 && options&0xC0 != 0: // [MQTT-3.8.3-5]
			c.fail(malformed, "reserved bits in options 0x%02X", options)
		case k.version != 5 && options&0xFC != 0: // 3.1.1: [MQTT-3.8.3-4]
			c.fail(malformed, "reserved bits in QoS 0x%02X", options)
		case options&0x03 == 3: // 3.8.3.1, in 3.1.1 [MQTT-3.8.3-4]
			c.fail(protocolError, "QoS 3")
		case options&0x30 == 0x30: // 3.8.3.1
			c.fail(protocolError, "retain handling 3")
		case shared && options&0x04 != 0: // [MQTT-3.8.3-4]
			c.fail(protocolError, "no local on a shared filter")
		}
	}
}

func (k *checker) unsubscribe(c *cursor) {
	c.id()
	if k.version == 5 {
		k.properties(c, ofUnsubscribe)
	}
	for n := 1; k.another(c, n); n++ {
		k.filter(c, c.str("filter")) // [MQTT-3.10.3-1]
	}
}

// another reports whether the n-th filter follows.
func (k *checker) another(c *cursor, n int) bool {
	switch {
	case c.bad != nil:
	case len(c.b) == 0 && n == 1: // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
		c.fail(protocolError, "no filter")
	case len(c.b) > 0 && n > k.limits.Filters:
		c.fail(quotaExceeded, "more than %d filters", k.limits.Filters)
	}
	return len(c.b) > 0
}

func (k *checker) disconnect(c *cursor) {
	const codes = "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99" // [MQTT-3.14.2-1], those of a client
	reason := k.reasonCode(c, codes, ofDisconnect)
	if c.bad == nil {
		k.left, k.reason = true, reason
	}
}

func (k *checker) auth(c *cursor) {
	if !k.exchanges { // [MQTT-4.12.0-6]
		c.fail(protocolError, "CONNECT had no authentication method")
		return
	}
	if len(c.b) == 0 { // 3.15.2.1: means success, which only a server says
		c.fail(protocolError, "reason code 0x00 from a client")
		return
	}
	if reason := c.u8("reason code"); reason != 0x18 && reason != 0x19 { // [MQTT-3.15.2-1]
		c.fail(protocolError, "reason code 0x%02X from a client", reason)
	}
	if p := k.properties(c, ofAuth); !p.has(authMethod) { // 3.15.2.2.2
		c.fail(protocolError, "no authentication method")
	}
	c.end()
}

// farewell is what the client is told when its connection ends because of bad:
// nothing, where its version has no words for it or it is too early for them.
func (k *checker) farewell(bad *Violation, admitted bool) []byte {
	switch {
	case k.version == 0 && !k.named:
		return nil
	case k.version == 0 && bad.Reason == badVersion && (k.level < 5 || k.level >= 0x80):
		return []byte{connack << 4, 2, 0, 0x01} // 3.1.1: [MQTT-3.1.2-2]; from 0x80 on it is mosquitto's bridge
	case k.version == 0 && bad.Reason == badVersion && k.level > 5:
		return []byte{connack << 4, 3, 0, badVersion, 0} // [MQTT-3.1.2-2]
	case k.version == 0 && k.level == 5 && bad.Reason != timedOut:
		return k.refusal(connack<<4, []byte{0, bad.Reason}, bad.Text)
	case k.version == 5 && admitted:
		return k.refusal(disconnect<<4, []byte{bad.Reason}, bad.Text)
	}
	return nil
}

// refusal is a short packet with a reason string, if the client takes that much.
func (k *checker) refusal(first byte, body []byte, text string) []byte {
	n := 3 + len(text)
	with := slices.Concat(appendVarint(slices.Clone(body), n), []byte{reasonString, byte(len(text) >> 8), byte(len(text))}, []byte(text))
	for _, body := range [][]byte{with, append(body, 0)} {
		packet := append(appendVarint([]byte{first}, len(body)), body...)
		if k.maximum == 0 || len(packet) <= int(k.maximum) { // [MQTT-3.14.2-3] [MQTT-3.2.2-19] [MQTT-3.1.2-24]
			return packet
		}
	}
	return nil
}

func appendVarint(b []byte, v int) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func name(kind byte) string { return strings.Fields(names)[kind] }
