package turn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// newCertificate makes one for localhost.
func newCertificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// message is a STUN message whose header says size.
func message(kind, size uint16) []byte {
	b := make([]byte, headerSize)
	binary.BigEndian.PutUint16(b, kind)
	binary.BigEndian.PutUint16(b[2:], size)
	binary.BigEndian.PutUint32(b[4:], cookie)
	return b
}

const binding = 0x0001

// TestBrokenFramesEndTheConnection has the frame, first, whose length runs over
// to 0: pion 5.1.0 alone returns it again and again.
func TestBrokenFramesEndTheConnection(t *testing.T) {
	for name, frame := range map[string][]byte{
		"runs over to nothing": message(binding, 0x10000-headerSize),
		"runs over":            message(binding, 0xfffc),
		"too long":             message(binding, maxFrame),
		"not padded":           message(binding, 3),
		"no cookie":            make([]byte, headerSize),
		"too much data":        {0x40, 0x00, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0},
		"HTTP":                 []byte("GET / HTTP/1.1\r\n\r\n"),
		"TLS without":          {0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0},
	} {
		s, _, _, _ := start(t)
		conn, err := net.Dial("tcp", s.at())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second)) // less than its patience
		if n, err := conn.Read(make([]byte, 100)); n > 0 || err == nil || isTimeout(err) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		_ = conn.Close()
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

func TestFramesMayComeInPieces(t *testing.T) {
	s, _, _, _ := start(t)
	conn, err := net.Dial("tcp", s.at())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	both := append(message(binding, 0), message(binding, 0)...)
	for i := range both {
		if _, err := conn.Write(both[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		answer := make([]byte, 40) // with XOR-MAPPED-ADDRESS and FINGERPRINT
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(conn, answer); err != nil || binary.BigEndian.Uint16(answer) != 0x0101 {
			t.Fatalf("% x: %v", answer, err)
		}
	}
}

func TestAConnectionWithoutARelayIsCutOff(t *testing.T) {
	for name, sends := range map[string][]byte{"silence": nil, "half a frame": {0, 1, 0, 0}, "requests": message(binding, 0)} {
		s, _, _, _ := start(t)
		l := s.tcp[0]
		l.mu.Lock()
		l.patience = 50 * time.Millisecond
		l.mu.Unlock()
		conn, err := net.Dial("tcp", s.at())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(sends); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Errorf("%s is kept", name)
		}
		_ = conn.Close()
	}
}

func TestAConnectionIsCutOffAfterItsRelay(t *testing.T) {
	s, servers, _, log := start(t)
	l := s.tcp[0]
	user, credential := login(servers, "alice")
	c := dial(t, "tcp", s.at(), user, credential)
	if err := c.allocate(t); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	if l.total != 0 || len(l.byClient) != 1 {
		t.Errorf("%d of %d connections wait", l.total, len(l.byClient))
	}
	l.patience = 50 * time.Millisecond
	l.mu.Unlock()
	_ = c.relay.Close()
	log.waitFor(t, "relay ended", 1)
	log.waitFor(t, "Exit read loop", 1)
}

// from is a connection from an address.
type from struct {
	net.Conn
	address string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.address), Port: 1} }
func (f from) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3478} }

func TestOneAddressMayHaveSoManyConnectionsWaiting(t *testing.T) {
	l := newStreams(nil, nil, nil)
	var all []*stream
	for range maxWaitingPerAddress {
		s := l.admit(from{address: "2001:db8::1"})
		if s == nil {
			t.Fatal("refused")
		}
		all = append(all, s)
	}
	if l.admit(from{address: "2001:db8::2"}) != nil { // the same /64
		t.Error("one more is admitted")
	}
	if l.admit(from{address: "2001:db8:0:1::1"}) == nil || l.admit(from{address: "192.0.2.9"}) == nil {
		t.Error("others are not")
	}
	l.mu.Lock()
	l.wait(all[0], -1) // it has made a relay
	l.mu.Unlock()
	if l.admit(from{address: "2001:db8::2"}) == nil {
		t.Error("there is room again")
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(message(binding, 0))
	f.Add(append(message(refreshSuccess, 8), 0, 0x0d, 0, 4, 0, 0, 2, 0x58))
	f.Add([]byte{0x40, 0, 0, 4, 1, 2, 3, 4})
	f.Add(message(binding, 0xffec))
	f.Fuzz(func(t *testing.T, b []byte) {
		if granted, ok := lifetime(b); ok && (granted < 0 || !sound(b)) {
			t.Errorf("% x grants %v", b, granted)
		}
		if len(b) >= 4 {
			if n, err := frameSize(b); err == nil && (n < 4 || n > maxFrame || n%4 != 0) {
				t.Errorf("% x has %d bytes", b, n)
			}
		}
	})
}

func TestLifetimeOfAnAnswer(t *testing.T) {
	answer := append(message(refreshSuccess, 16), 0x80, 0x22, 0, 2, 'x', 'y', 0, 0, 0, 0x0d, 0, 4, 0, 0, 2, 0x58)
	if got, ok := lifetime(answer); !ok || got != 10*time.Minute {
		t.Errorf("%v, %v", got, ok)
	}
	answer[1] = 0x08 // CreatePermission
	if _, ok := lifetime(answer); ok {
		t.Error("another answer has one")
	}
}
