package guard

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// script is a connection on which the client sends the given pieces and leaves.
type script struct {
	net.Conn
	pieces [][]byte
}

func (s *script) Read(p []byte) (int, error) {
	for len(s.pieces) > 0 && len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	s.pieces[0] = s.pieces[0][n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// replay is what the guard hands on of the pieces, when it is read into spaces
// of the sizes that window says. CONNECT is accepted.
func replay(pieces [][]byte, window func() int) (out []byte, err error) {
	c := &reader{Conn: New(&script{pieces: slices.Clone(pieces)}, Limits{}, nil)}
	for err == nil {
		var n int
		p := make([]byte, window())
		n, err = c.Read(p)
		out = append(out, p[:n]...)
		if c.Version() != 0 {
			c.Admit()
		}
	}
	c.Close()
	<-c.Done()
	return out, err
}

func FuzzConn(f *testing.F) {
	threat.Row(f, 13, 0)
	for _, p := range packets {
		connect := ""
		switch p.version {
		case 4:
			connect = connect4
		case 5:
			connect = connect5
		}
		f.Add(assemble(f, connect+" "+p.packet), uint64(1))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		if len(stream) > 4096 {
			return
		}
		want, wantErr := replay([][]byte{slices.Clone(stream)}, func() int { return 8192 })
		r := rand.New(rand.NewPCG(seed, 0))
		most := []int{1, 3, 20, 700}[r.IntN(4)]
		var pieces [][]byte
		for rest := slices.Clone(stream); len(rest) > 0; {
			n := min(1+r.IntN(most), len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, gotErr := replay(pieces, func() int { return 1 + r.IntN(1024) })
		if !bytes.Equal(got, want) {
			t.Errorf("in pieces % X, at once % X", got, want)
		}
		if a, b := reasonOf(gotErr), reasonOf(wantErr); a != b {
			t.Errorf("in pieces %v, at once %v", gotErr, wantErr)
		}
	})
}

func reasonOf(err error) any {
	var v *Violation
	if errors.As(err, &v) {
		return *v
	}
	return err
}

func FuzzCheck(f *testing.F) {
	threat.Row(f, 13, 0)
	for _, p := range packets {
		f.Add(p.version, assemble(f, p.packet))
	}
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		version = []byte{0, 3, 4, 5}[version%4]
		k := &checker{limits: Limits{}.withDefaults(), version: version, exchanges: true}
		head, size, bad := k.frame(b, 8192)
		if bad != nil || size == 0 {
			return
		}
		b = b[:size]
		a, bad := k.check(b, head)
		if bad != nil {
			return
		}
		if b[0]>>4 == connect {
			version = k.version
		}
		again, filters := reread(t, version, b)
		if !bytes.Equal(again, b[head:]) {
			t.Errorf("% X\nreads as\n% X", b[head:], again)
		}
		for _, filter := range filters {
			if !plausible(filter) {
				t.Errorf("filter %q passed", filter)
			}
		}
		if a.Type != 0 && (a.ID != uint16(b[head])<<8|uint16(b[head+1]) || a.ID == 0) {
			t.Errorf("% X: %+v", b, a)
		}
	})
}
