package guard

import (
	"bytes"
	"io"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestDisconnectIsRememberedAndNothingFollowsIt(t *testing.T) {
	p := wired(t, Limits{}).join(connect5)
	if _, ok := p.Left(); ok {
		t.Error("left too soon")
	}
	p.send(`E0 01 04 C0 00`)
	p.expect(`E0 01 04`)
	if reason, ok := p.Left(); reason != 4 || !ok {
		t.Errorf("left with 0x%02X, %v", reason, ok)
	}
	if _, err := p.Read(make([]byte, 9)); err != io.EOF || p.Err() != nil {
		t.Errorf("Read said %v, Err %v", err, p.Err())
	}
	p.Close()
	<-p.Done() // although the client has not closed
}

func TestPacketsAreReadOneByOneBeforeAdmit(t *testing.T) {
	p := wired(t, Limits{})
	line := ` C0 00 30 .. "a" 'hello'`
	p.client.Write(assemble(t, connect4+line))
	b := make([]byte, 4096)
	if n, err := p.Read(b); err != nil || !bytes.Equal(b[:n], assemble(t, connect4)) {
		t.Fatalf("% X, %v", b[:n], err)
	}
	p.Admit()
	p.expect(line)
}

func TestLittleIsTakenBeforeAdmit(t *testing.T) {
	threat.Row(t, 14, 0)
	t.Run("a packet", func(t *testing.T) {
		p := wired(t, Limits{})
		p.send(`10 FF7F`)
		p.refused(tooLarge)
	})
	t.Run("everything", func(t *testing.T) {
		p := wired(t, Limits{Unauthenticated: 100})
		p.client.Write(bytes.Join([][]byte{assemble(t, connect4), bytes.Repeat(assemble(t, `C0 00`), 50)}, nil))
		p.refused(tooLarge)
		if p.early != 100 {
			t.Errorf("%d bytes taken", p.early)
		}
	})
	t.Run("more after it", func(t *testing.T) {
		p := wired(t, Limits{}).join(connect4)
		big := append(assemble(t, `30 80A003 "a"`), make([]byte, 53248-3)...)
		go p.client.Write(big)
		got := make([]byte, len(big))
		if _, err := io.ReadFull(p, got); err != nil || !bytes.Equal(got, big) {
			t.Error(err)
		}
	})
}

func TestConnectionLostInAPacketIsUnexpected(t *testing.T) {
	p := wired(t, Limits{}).join(connect4)
	p.client.Write([]byte{0x30, 5, 0})
	p.client.Close()
	if _, err := p.Read(make([]byte, 4096)); err != io.ErrUnexpectedEOF {
		t.Errorf("Read said %v", err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err is %v", err)
	}
}
