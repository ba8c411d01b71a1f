package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

const (
	connect4 = c4 + `02 003C "cam";`
	connect5 = c5 + `02 003C [] "cam";`
)

// reader hands on the packets of a Conn as a stream.
type reader struct {
	*Conn
	rest []byte // of a packet
}

func (r *reader) Read(p []byte) (n int, err error) {
	if len(r.rest) == 0 {
		if r.rest, err = r.Next(); err != nil {
			return 0, err
		}
	}
	n = copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// peer is a Conn with its client at the other end.
type peer struct {
	*reader
	t      testing.TB
	client net.Conn
	acks   []Ack
}

// piped is a peer over a net.Pipe, which holds nothing back: for fake time.
func piped(t testing.TB, l Limits) *peer {
	server, client := net.Pipe()
	return guarded(t, server, client, l)
}

// wired is a peer over TCP.
func wired(t testing.TB, l Limits) *peer {
	t.Helper()
	server, client := tcp(t)
	return guarded(t, server, client, l)
}

func tcp(t testing.TB) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return server, client
}

func guarded(t testing.TB, server, client net.Conn, l Limits) *peer {
	p := &peer{t: t, client: client}
	p.reader = &reader{Conn: New(server, l, func(a Ack) bool {
		p.acks = append(p.acks, a)
		return true
	})}
	t.Cleanup(func() { // in a bubble it must have ended before
		p.Close()
		client.Close()
		<-p.Done()
	})
	return p
}

// end closes both ends and waits.
func (p *peer) end() {
	p.Close()
	p.client.Close()
	<-p.Done()
}

// send writes from the client in the background, as a pipe has no buffer.
func (p *peer) send(line string) {
	b := assemble(p.t, line)
	go p.client.Write(b)
}

// expect reads packets from the guard.
func (p *peer) expect(line string) {
	p.t.Helper()
	want := assemble(p.t, line)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p, got); err != nil || !bytes.Equal(got, want) {
		p.t.Fatalf("read % X, %v, want % X", got, err, want)
	}
}

// join goes through the handshake.
func (p *peer) join(connect string) *peer {
	p.t.Helper()
	p.send(connect)
	p.expect(connect)
	p.Admit()
	return p
}

// refused reads until the guard ends the connection, for that reason.
func (p *peer) refused(reason byte) *Violation {
	p.t.Helper()
	_, err := io.Copy(io.Discard, struct{ io.Reader }{p})
	var v *Violation
	if !errors.As(err, &v) || v.Reason != reason {
		p.t.Fatalf("ended with %v, want reason 0x%02X", err, reason)
	}
	if p.Err() != err {
		p.t.Errorf("Err is %v, Read said %v", p.Err(), err)
	}
	return v
}

// told reads what the client is told last.
func (p *peer) told() []byte {
	p.t.Helper()
	p.client.SetReadDeadline(time.Now().Add(2 * time.Minute))
	b, err := io.ReadAll(p.client)
	if err != nil {
		p.t.Error("client: ", err)
	}
	return b
}

func took(t testing.TB, start time.Time, want time.Duration) {
	t.Helper()
	if d := time.Since(start); d != want {
		t.Errorf("after %v, want %v", d, want)
	}
}
