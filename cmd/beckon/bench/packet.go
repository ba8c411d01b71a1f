package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The packets of MQTT 3.1.1 that a load needs, and no others.

// Types of packet, MQTT 3.1.1 section 2.2.1.
const (
	connectPacket    = 1
	connackPacket    = 2
	publishPacket    = 3
	pubackPacket     = 4
	subscribePacket  = 8
	subackPacket     = 9
	pingreqPacket    = 12
	pingrespPacket   = 13
	disconnectPacket = 14
)

// maxPacket is how long a packet from the server may be, in bytes after its fixed
// header.
const maxPacket = 1 << 20

var pingreq = []byte{pingreqPacket << 4, 0}

// connect is a CONNECT with a clean session (section 3.1).
type connect struct {
	ClientID  string
	Username  string // "" for none
	Password  string // "" for none
	KeepAlive uint16 // seconds
}

func (c connect) append(b []byte) []byte {
	flags, n := byte(0x02), 10+2+len(c.ClientID)
	if c.Username != "" || c.Password != "" { // a password needs a name, 3.1.2.9
		flags |= 0x80
		n += 2 + len(c.Username)
	}
	if c.Password != "" {
		flags |= 0x40
		n += 2 + len(c.Password)
	}
	b = appendLength(append(b, connectPacket<<4), n)
	b = append(appendText(b, "MQTT"), 4, flags)
	b = binary.BigEndian.AppendUint16(b, c.KeepAlive)
	b = appendText(b, c.ClientID)
	if flags&0x80 != 0 {
		b = appendText(b, c.Username)
	}
	if flags&0x40 != 0 {
		b = appendText(b, c.Password)
	}
	return b
}

// appendSubscribe appends a SUBSCRIBE (section 3.8).
func appendSubscribe(b []byte, id uint16, qos byte, filters ...string) []byte {
	n := 2
	for _, f := range filters {
		n += 2 + len(f) + 1
	}
	b = appendLength(append(b, subscribePacket<<4|0x02), n)
	b = binary.BigEndian.AppendUint16(b, id)
	for _, f := range filters {
		b = append(appendText(b, f), qos)
	}
	return b
}

// appendPublish appends the beginning of a PUBLISH (section 3.3), whose payload of
// that many bytes must follow.
func appendPublish(b []byte, topic string, qos byte, id uint16, payload int) []byte {
	n := 2 + len(topic) + payload
	if qos > 0 {
		n += 2
	}
	b = appendLength(append(b, publishPacket<<4|qos<<1), n)
	b = appendText(b, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return b
}

// appendPuback appends a PUBACK (section 3.4).
func appendPuback(b []byte, id uint16) []byte {
	return append(b, pubackPacket<<4, 2, byte(id>>8), byte(id))
}

// appendLength appends a remaining length (section 2.2.3).
func appendLength(b []byte, n int) []byte {
	for n > 127 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// packet is what a server sends. Its slices are good until the next is read.
type packet struct {
	kind    byte
	qos     byte
	id      uint16 // of PUBLISH with QoS 1 or 2, PUBACK and SUBACK
	topic   []byte // of PUBLISH
	payload []byte // of PUBLISH
	codes   []byte // of CONNACK, one, and of SUBACK
}

// packetReader reads packets.
type packetReader struct {
	in  *bufio.Reader
	buf []byte
}

// next reads a packet. What is none, or makes no sense from a server, is an error,
// after which nothing more can be read.
func (r *packetReader) next() (packet, error) {
	first, err := r.in.ReadByte()
	if err != nil {
		return packet{}, err
	}
	n, err := r.length()
	if err != nil {
		return packet{}, broken(err)
	}
	body, err := r.body(n)
	if err != nil {
		return packet{}, broken(err)
	}
	return parsePacket(first, body)
}

// body reads n bytes, which stay in the buffer. It grows with what came, not with
// what was announced.
func (r *packetReader) body(n int) ([]byte, error) {
	const step = 16 << 10
	for have := 0; have < n; {
		upTo := min(n, have+step)
		if cap(r.buf) < upTo {
			grown := make([]byte, max(upTo, 2*cap(r.buf), 64))
			copy(grown, r.buf[:have])
			r.buf = grown
		}
		if _, err := io.ReadFull(r.in, r.buf[have:upTo]); err != nil {
			return nil, err
		}
		have = upTo
	}
	return r.buf[:n], nil
}

func (r *packetReader) length() (n int, err error) {
	for shift := 0; shift <= 21; shift += 7 {
		b, err := r.in.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			if n > maxPacket {
				return 0, fmt.Errorf("a packet of %d bytes, the limit is %d", n, maxPacket)
			}
			return n, nil
		}
	}
	return 0, errors.New("a packet whose length has more than 4 bytes")
}

// broken is err in the middle of a packet.
func broken(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func parsePacket(first byte, body []byte) (packet, error) {
	p := packet{kind: first >> 4}
	short := fmt.Errorf("a packet of type %d with %d bytes, which are too few", p.kind, len(body))
	switch p.kind {
	case connackPacket:
		if len(body) < 2 {
			return p, short
		}
		p.codes = body[1:2]
	case publishPacket:
		p.qos = first >> 1 & 3
		if len(body) < 2 {
			return p, short
		}
		n := int(binary.BigEndian.Uint16(body))
		if body = body[2:]; len(body) < n {
			return p, short
		}
		p.topic, body = body[:n], body[n:]
		if p.qos > 0 {
			if len(body) < 2 {
				return p, short
			}
			p.id, body = binary.BigEndian.Uint16(body), body[2:]
		}
		p.payload = body
	case pubackPacket, subackPacket:
		if len(body) < 2 {
			return p, short
		}
		p.id, p.codes = binary.BigEndian.Uint16(body), body[2:]
	case pingrespPacket:
	default:
		return p, fmt.Errorf("a packet of type %d, which a server does not send to this client", p.kind)
	}
	return p, nil
}
