package door

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// How long a client that is refused has to read why, and how much of what it
// says meanwhile is read: a socket closed with something unread is reset, and
// the answer with it.
const (
	lastWords = time.Second
	lastBytes = 64 << 10
)

// refusedAtOnce is how many connections may wait to be told that they are refused
// because there is too little left to serve them.
const refusedAtOnce = 16

// Refused says why the connection of r is not to be served. What tells of the
// server's health is answered all the same.
func Refused(r *http.Request) *topics.Error {
	if c := connOf(r); c != nil {
		return c.unserved
	}
	return nil
}

// refuse tells the client of c why it is refused, in the form of its protocol; but
// not inside TLS, which costs too much for that.
func (d *Door) refuse(c *conn) {
	_ = c.raw.SetDeadline(time.Now().Add(lastWords))
	switch first, err := c.first(); {
	case err != nil:
	case first == mqttConnect:
		d.refuseMQTT(c, c.refused)
	case letter(first):
		c.lastWords(bridge.ProblemResponse(c.refused))
	}
}

// refuseMQTT answers the CONNECT that c begins with.
func (d *Door) refuseMQTT(c *conn, why *topics.Error) {
	level, err := protocolLevel(c)
	if err != nil {
		return
	}
	code, code3 := byte(0x88), byte(3) // unavailable: MQTT 5, 3.2.2.2, and 3.1.1, 3.2.2.3
	switch why.Code {
	case topics.Forbidden:
		code, code3 = 0x87, 5 // not authorized
	case topics.RateLimited:
		code = 0x9F // connection rate exceeded
	}
	answer := []byte{0x20, 2, 0, code3}
	if level >= 5 {
		reason := binary.BigEndian.AppendUint16([]byte{0x1f}, uint16(len(why.Message))) // MQTT 5, 3.2.2.3.9
		reason = append(reason, why.Message...)
		answer = append([]byte{0x20, byte(3 + len(reason)), 0, code, byte(len(reason))}, reason...)
	}
	c.lastWords(answer)
}

// lastWords writes past c, which would take the answer for an admission, and gives
// the client time to read it.
func (c *conn) lastWords(answer []byte) {
	_ = c.peeker.SetDeadline(time.Now().Add(lastWords))
	if _, err := c.peeker.Conn.Write(answer); err != nil {
		return
	}
	_ = c.CloseWrite()
	_, _ = io.CopyN(io.Discard, &c.peeker, lastBytes)
}

// letter reports whether a request may begin with b.
func letter(b byte) bool { return 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' }

// protocolLevel reads a CONNECT as far as its protocol level (MQTT 5, 3.1.2.2).
func protocolLevel(r io.Reader) (byte, error) {
	var b [7]byte // the type, and what follows the length: 2 bytes, "MQTT", the level
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return 0, err
	}
	for i := 0; ; i++ { // remaining length, 1.5.5
		if _, err := io.ReadFull(r, b[:1]); err != nil {
			return 0, err
		}
		if b[0] < 0x80 {
			break
		}
		if i == 3 {
			return 0, errors.New("the length of a packet has more than 4 bytes")
		}
	}
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	if string(b[:6]) != "\x00\x04MQTT" {
		return 3, nil // "MQIsdp", whose answer is that of 3.1.1
	}
	return b[6], nil
}
