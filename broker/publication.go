package broker

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// publication is a PUBLISH packet as it came, in parts of it (MQTT 5, 3.3).
type publication struct {
	qos        byte
	retain     bool
	topic      []byte
	id         uint16 // 0 for QoS 0
	properties []byte // with their length; empty before MQTT 5
	payload    []byte
}

// parsePublish takes apart a packet that the guard has checked.
func parsePublish(p []byte, version byte) publication {
	pub := publication{qos: p[0] >> 1 & 3, retain: p[0]&1 != 0}
	_, n := binary.Uvarint(p[1:]) // MQTT's variable byte integer is that of Protocol Buffers
	b := p[1+n:]
	n = 2 + int(binary.BigEndian.Uint16(b))
	pub.topic, b = b[2:n], b[n:]
	if pub.qos > 0 {
		pub.id, b = binary.BigEndian.Uint16(b), b[2:]
	}
	if version >= 5 {
		length, n := binary.Uvarint(b)
		n += int(length)
		pub.properties, b = b[:n], b[n:]
	}
	pub.payload = b
	return pub
}

// travelling returns its properties that go with it to its receivers, nil if
// there are none.
func (pub *publication) travelling() *packets.Properties {
	if len(pub.properties) <= 1 {
		return nil
	}
	var p packets.Properties
	if _, err := p.Decode(packets.Publish, bytes.NewBuffer(bytes.Clone(pub.properties))); err != nil {
		return nil // the guard has read them
	}
	return travelling(p)
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

// headSpace holds all but the payload of most PUBLISH packets.
const headSpace = 320

// aliasSpace is what an alias may add to a packet: the property, and a byte more for
// the length of the properties and of the whole.
const aliasSpace = 5

// publishSize is the length of the PUBLISH of out, in bytes.
func publishSize(version byte, out *outgoing) int {
	n := 0
	if version >= 5 {
		n = len(appendProperties(nil, out))
	}
	n = remaining(version, out, n)
	return 1 + varintSize(n) + n
}

// remaining is its Remaining Length (MQTT 5, 2.1.4), with so many bytes of
// properties.
func remaining(version byte, out *outgoing, properties int) int {
	n := 2 + len(out.topic()) + len(out.m.Payload)
	if out.qos() > 0 {
		n += 2
	}
	if version >= 5 {
		n += varintSize(properties) + properties
	}
	return n
}

// appendPublish appends the PUBLISH of out to b, without the payload.
func appendPublish(b []byte, version byte, out *outgoing) []byte {
	m, qos := out.m, out.qos()
	var properties []byte
	if version >= 5 {
		properties = appendProperties(nil, out)
	}
	first := packets.Publish<<4 | qos<<1
	if out.how.retain && m.retained {
		first |= 1
	}
	b = binary.AppendUvarint(append(b, first), uint64(remaining(version, out, len(properties))))
	b = appendText(b, out.topic())
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, out.id)
	}
	if version >= 5 {
		b = append(binary.AppendUvarint(b, uint64(len(properties))), properties...)
	}
	return b
}

// appendProperties appends what travels with a message, the identifiers of the
// subscriptions that it is for, and the alias of its topic (MQTT 5, 3.3.2.3).
func appendProperties(b []byte, out *outgoing) []byte {
	for _, id := range out.how.ids {
		b = binary.AppendUvarint(append(b, packets.PropSubscriptionIdentifier), uint64(id))
	}
	if out.alias > 0 {
		b = binary.BigEndian.AppendUint16(append(b, packets.PropTopicAlias), out.alias)
	}
	p := out.m.properties
	if p == nil {
		return b
	}
	if p.PayloadFormatFlag {
		b = append(b, packets.PropPayloadFormat, p.PayloadFormat)
	}
	if !out.m.expires.IsZero() { // what is left of it, whole seconds [MQTT-3.3.2-6]
		left := max(1, (time.Until(out.m.expires)+time.Second-1)/time.Second)
		b = binary.BigEndian.AppendUint32(append(b, packets.PropMessageExpiryInterval), uint32(left))
	}
	if p.ContentType != "" {
		b = appendText(append(b, packets.PropContentType), p.ContentType)
	}
	if p.ResponseTopic != "" {
		b = appendText(append(b, packets.PropResponseTopic), p.ResponseTopic)
	}
	if p.CorrelationData != nil {
		b = appendText(append(b, packets.PropCorrelationData), p.CorrelationData)
	}
	for _, user := range p.User {
		b = appendText(appendText(append(b, packets.PropUser), user.Key), user.Val)
	}
	return b
}

// appendText appends a string, or binary data, with its length (MQTT 5, 1.5.4,
// 1.5.6). Each came in a packet, or is short.
func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// varintSize is the length of n as a variable byte integer (MQTT 5, 1.5.5).
func varintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
