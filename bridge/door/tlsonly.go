package door

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// tlsOnly is what a plain client is told, in the form of its protocol.
const tlsOnly = "this server takes TLS only; this very port does"

// encryption is what a proxy has said of how its client came.
type encryption byte

const (
	unsaid encryption = iota
	inClear
	byTLS
)

// mustEncrypt reports whether the client at that address may not go on as it is
// on c, of which a proxy has said so much.
func (d *Door) mustEncrypt(c *conn, client netip.Addr, said encryption) bool {
	if !d.config.TLSOnly || said == byTLS {
		return false
	}
	return said == inClear || !c.encrypted() && countedFor(client).IsValid()
}

// encryptedOnly refuses plain requests.
func (d *Door) encryptedOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.mustEncrypt(connOf(r), clientOf(r), encryptionOf(r)) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		Problem(w, topics.Errorf(topics.Forbidden, tlsOnly+": use https:// or wss://"))
	})
}

// How long a client that is refused has to read why, and how much of what it
// says meanwhile is read: a socket closed with something unread is reset, and
// the answer with it.
const (
	lastWords = time.Second
	lastBytes = 64 << 10
)

// refuseMQTT answers the CONNECT that c begins with: not authorized.
func (d *Door) refuseMQTT(c *conn) {
	level, err := protocolLevel(c)
	if err != nil {
		return
	}
	answer := []byte{0x20, 2, 0, 0x05} // MQTT 3.1.1, 3.2.2.3
	if level >= 5 {
		reason := binary.BigEndian.AppendUint16([]byte{0x1f}, uint16(len(tlsOnly))) // MQTT 5, 3.2.2.3.9
		reason = append(reason, tlsOnly...)
		answer = append([]byte{0x20, byte(3 + len(reason)), 0, 0x87, byte(len(reason))}, reason...)
	}
	// Past c, which would take the answer for an admission.
	_ = c.peeker.SetDeadline(time.Now().Add(lastWords))
	if _, err := c.raw.Write(answer); err != nil {
		return
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, c.raw, lastBytes)
}

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
