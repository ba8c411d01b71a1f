package door

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// The PROXY protocol (HAProxy's proxy-protocol.txt) begins a connection with a
// header that says whose it is: a line of text, section 2.1, or a binary one,
// section 2.2, which may say that the client came by TLS.
const (
	proxyLine     = "PROXY "
	proxyBinary   = "\r\n\r\n\x00\r\nQUIT\n"
	longestLine   = 107  // bytes
	longestBinary = 4096 // bytes after the fixed ones; a certificate fits
	clientBySSL   = 0x01 // bit of PP2_TYPE_SSL, section 2.2.6
)

var (
	errStranger = errors.New("it begins with a PROXY header, and its address is not one of --trusted-proxy")
	errFull     = errors.New("too many connections of its client are not authenticated")
	errBanned   = errors.New("too many new connections of its client")
)

// trusts reports whether a proxy at that address is believed.
func (d *Door) trusts(a netip.Addr) bool {
	for _, p := range d.config.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// introduce takes the PROXY header off c, if it begins with one, and gives c the
// address in it. An error is for the log: the connection is to be closed.
func (d *Door) introduce(c *conn) error {
	begin, err := c.startsLike(proxyLine, proxyBinary)
	switch {
	case err != nil:
		return nil // whoever reads on finds it
	case begin == "" && c.proxied:
		return d.unannounced(c)
	case begin == "":
		return nil
	}
	via := addrOf(c.RemoteAddr())
	if !d.trusts(via) {
		return errStranger
	}
	header, err := readHeader(c, begin)
	if err != nil {
		return fmt.Errorf("the PROXY header is malformed: %w", err)
	}
	client, said, err := header.client()
	if err != nil {
		return fmt.Errorf("the PROXY header is malformed: %w", err)
	}
	c.said = said
	if a := client.Addr(); a.IsValid() && (!a.IsLoopback() || via.IsLoopback()) { // loopback of another machine is the proxy
		c.peeker.remote = net.TCPAddrFromAddrPort(client)
	}
	return d.known(c)
}

// known counts c for its client, whose address c has by now.
func (d *Door) known(c *conn) error {
	if !d.recount(c, addrOf(c.RemoteAddr())) {
		return errFull
	}
	var ban bool
	if c.refused, ban = d.arrive(c); ban {
		return errBanned
	}
	return nil
}

// unannounced counts a connection from a trusted address that begins with no header.
// One of MQTT is of somebody there. In HTTP each request says whose it is.
func (d *Door) unannounced(c *conn) error {
	first, err := c.first()
	if err == nil && first == mqttConnect {
		return d.known(c)
	}
	c.refused, _ = d.arrive(c) // in all, since it is nobody's yet
	c.arrived = true
	return nil
}

// recount has c count for the client that it turns out to be of.
func (d *Door) recount(c *conn, client netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uncount(c)
	c.from = countedFor(client)
	return d.count(c)
}

// startsLike waits until c begins with one of these, or with none of them: "".
func (c *conn) startsLike(these ...string) (string, error) {
	for n := 1; ; n++ {
		b, err := c.peek(n)
		if err != nil {
			return "", err
		}
		alike := false
		for _, s := range these {
			if bytes.Equal(b, []byte(s)) {
				return s, nil
			}
			alike = alike || n < len(s) && s[:n] == string(b)
		}
		if !alike {
			return "", nil
		}
	}
}

// proxyHeader is a header, and the bytes it was.
type proxyHeader struct {
	*proxyproto.Header
	raw []byte
}

// readHeader reads the header that r begins with, and not a byte more.
func readHeader(r io.Reader, begin string) (proxyHeader, error) {
	var raw []byte
	if begin == proxyLine {
		for len(raw) == 0 || raw[len(raw)-1] != '\n' {
			if len(raw) == longestLine {
				return proxyHeader{}, proxyproto.ErrVersion1HeaderTooLong
			}
			var b [1]byte
			if _, err := io.ReadFull(r, b[:]); err != nil {
				return proxyHeader{}, err
			}
			raw = append(raw, b[0])
		}
	} else {
		raw = make([]byte, len(proxyBinary)+4) // version and command, family, length
		if _, err := io.ReadFull(r, raw); err != nil {
			return proxyHeader{}, err
		}
		length := int(binary.BigEndian.Uint16(raw[len(raw)-2:]))
		if length > longestBinary {
			return proxyHeader{}, fmt.Errorf("it has %d bytes, at most %d", length, longestBinary)
		}
		fixed := len(raw)
		raw = append(raw, make([]byte, length)...)
		if _, err := io.ReadFull(r, raw[fixed:]); err != nil {
			return proxyHeader{}, err
		}
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	return proxyHeader{h, raw}, err
}

// client is the address in the header, not valid where it says none: the
// connection is the proxy's own then, for a check of its health.
func (h proxyHeader) client() (client netip.AddrPort, said encryption, err error) {
	if h.Version == 2 {
		if said, err = h.encryption(); err != nil {
			return client, unsaid, err
		}
	}
	if h.Command.IsLocal() || h.Version == 1 && h.TransportProtocol.IsUnspec() {
		return client, said, nil
	}
	source, _, ok := h.TCPAddrs()
	if !ok {
		return client, unsaid, errors.New("it is not about TCP")
	}
	a, _ := netip.AddrFromSlice(source.IP)
	if a = a.Unmap(); !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
		return client, unsaid, fmt.Errorf("%v is not the address of a client", source.IP)
	}
	return netip.AddrPortFrom(a, uint16(source.Port)), said, nil
}

// encryption checks the header's sum, if it has one, and reads from its
// extensions whether the client came by TLS (sections 2.2.3 and 2.2.6).
func (h proxyHeader) encryption() (said encryption, err error) {
	fields, err := h.TLVs()
	if err != nil {
		return unsaid, err
	}
	for _, f := range fields {
		switch f.Type {
		case proxyproto.PP2_TYPE_CRC32C:
			if err := h.checkSum(f.Value); err != nil {
				return unsaid, err
			}
		case proxyproto.PP2_TYPE_SSL:
			if len(f.Value) < 5 {
				return unsaid, errors.New("what it says of TLS is cut off")
			}
			if said = inClear; f.Value[0]&clientBySSL != 0 {
				said = byTLS
			}
		}
	}
	return said, nil
}

// checkSum is section 2.2.3: the sum is over the header with zeros in its place.
func (h proxyHeader) checkSum(sum []byte) error {
	field := append([]byte{byte(proxyproto.PP2_TYPE_CRC32C), 0, 4}, sum...)
	at := bytes.LastIndex(h.raw, field)
	if len(sum) != 4 || at < 0 {
		return errors.New("its checksum does not have 4 bytes")
	}
	zeroed := bytes.Clone(h.raw)
	clear(zeroed[at+3 : at+7])
	if got := crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli)); got != binary.BigEndian.Uint32(sum) {
		return fmt.Errorf("its checksum is %x, not %x", sum, got)
	}
	return nil
}
