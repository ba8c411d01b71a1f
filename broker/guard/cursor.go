package guard

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// cursor walks over the body of one packet. After the first thing that is wrong
// it is empty and reads zeros, so that loops end and only the first counts.
type cursor struct {
	b    []byte // what is still to be read
	kind byte   // type of the packet
	bad  *Violation

	users, userBytes int // user properties of the packet so far
}

func (c *cursor) fail(reason byte, format string, args ...any) {
	if c.bad == nil {
		c.bad = violation(reason, name(c.kind)+": "+format, args...)
	}
	c.b = nil
}

func (c *cursor) take(n int, what string) []byte {
	if n > len(c.b) {
		c.fail(malformed, "%s of %d bytes, only %d follow", what, n, len(c.b))
		return nil
	}
	taken := c.b[:n]
	c.b = c.b[n:]
	return taken
}

func (c *cursor) u8(what string) byte {
	if b := c.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16(what string) uint16 {
	if b := c.take(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32(what string) uint32 {
	if b := c.take(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a variable byte integer (MQTT 5, section 1.5.5).
func (c *cursor) varint(what string) uint32 {
	v, n, ok := varint(c.b)
	switch {
	case !ok:
		c.fail(malformed, "%s is longer than 4 bytes", what)
		return 0
	case n == 0:
		c.fail(malformed, "%s is cut off", what)
		return 0
	case !shortest(v, n): // [MQTT-1.5.5-1]
		c.fail(malformed, "%s takes %d bytes for %d", what, n, v)
		return 0
	}
	c.b = c.b[n:]
	return v
}

// bin reads binary data (section 1.5.6).
func (c *cursor) bin(what string) []byte { return c.take(int(c.u16(what)), what) }

// str reads a UTF-8 string.
func (c *cursor) str(what string) []byte {
	s := c.bin(what)
	if !utf8.Valid(s) { // [MQTT-1.5.4-1], in 3.1.1 [MQTT-1.5.3-1]
		c.fail(malformed, "%s is not UTF-8", what)
	} else if bytes.IndexByte(s, 0) >= 0 { // [MQTT-1.5.4-2], in 3.1.1 [MQTT-1.5.3-2]
		c.fail(malformed, "%s holds U+0000", what)
	}
	return s
}

// id reads a packet identifier.
func (c *cursor) id() uint16 {
	id := c.u16("packet identifier")
	if id == 0 { // [MQTT-2.2.1-3], in 3.1.1 [MQTT-2.3.1-1]
		c.fail(protocolError, "packet identifier is 0")
	}
	return id
}

// end says that nothing may follow.
func (c *cursor) end() {
	if len(c.b) > 0 {
		c.fail(malformed, "%d bytes too many", len(c.b))
	}
}

// varint reads the variable byte integer at the start of b and says how many
// bytes it takes: 0 if it is not all there; ok is false if it is too long.
func varint(b []byte) (v uint32, n int, ok bool) {
	for n < 4 {
		if n == len(b) {
			return 0, 0, true
		}
		v |= uint32(b[n]&0x7F) << (7 * n)
		n++
		if b[n-1] < 0x80 {
			return v, n, true
		}
	}
	return 0, n, false
}

// shortest reports whether v could not have been written in fewer than n bytes.
func shortest(v uint32, n int) bool { return n == 1 || v>>(7*(n-1)) > 0 }
