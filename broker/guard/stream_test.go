package guard

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestAcknowledgementsAreTakenOut(t *testing.T) {
	p := wired(t, Limits{}).join(connect5)
	p.send(`40 02 0007  30 .. "a" [] 'x';  50 03 0008 80  70 04 0009 92 00  62 02 000A  C0 00  40 02 000B  E0 00`)
	p.expect(`30 .. "a" [] 'x';  62 02 000A  C0 00  E0 00`)
	if _, err := p.Read(make([]byte, 9)); err != io.EOF {
		t.Errorf("after DISCONNECT Read said %v", err)
	}
	want := []Ack{{puback, 7, 0}, {pubrec, 8, 0x80}, {pubcomp, 9, 0x92}, {puback, 11, 0}}
	if !slices.Equal(p.acks, want) {
		t.Errorf("acks %v, want %v", p.acks, want)
	}
	if p.Version() != 5 {
		t.Errorf("version %d", p.Version())
	}
}

func TestStreamMayBeSplitAnywhere(t *testing.T) {
	line := ` 30 .. "a/b" [26 "k" "v"] 'hello'; 40 02 0001 82 .. 0002 [] "a/+" 00; C0 00 70 03 0003 92 E0 00`
	whole := assemble(t, connect5+line)
	want := assemble(t, connect5+`30 .. "a/b" [26 "k" "v"] 'hello'; 82 .. 0002 [] "a/+" 00; C0 00 E0 00`)
	for size := range len(whole) {
		for _, pieces := range [][][]byte{{whole[:size], whole[size:]}, slices.Collect(slices.Chunk(whole, size+1))} {
			for _, window := range []int{1, 7, 512, 4096} {
				if got, err := replay(pieces, func() int { return window }); err != io.EOF || !bytes.Equal(got, want) {
					t.Fatalf("in pieces of %d read by %d: % X, %v", size, window, got, err)
				}
			}
		}
	}
}

func TestWhatCameBeforeAViolationIsHandedOn(t *testing.T) {
	p := wired(t, Limits{}).join(connect4)
	p.send(`30 .. "a" '1'; 30 .. "a" '2'; 30 .. "a/#" '3'`)
	p.expect(`30 .. "a" '1'; 30 .. "a" '2'`)
	p.refused(badTopic)
}

func TestClaimedLengthCostsNothing(t *testing.T) {
	threat.Row(t, 14, 0)
	l := Limits{Unauthenticated: -1, Packet: -1}
	header := []byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0}
	var before, after runtime.MemStats
	const n = 100
	peers := make([]*Conn, n)
	runtime.ReadMemStats(&before)
	for i := range peers {
		server, client := net.Pipe()
		peers[i] = New(server, l, nil)
		go func() {
			client.Write(header)
			client.Close()
		}()
		if _, err := peers[i].Next(); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / n; per > 8<<10 {
		t.Errorf("%d bytes for each connection", per)
	}
	for _, c := range peers {
		c.Close()
		<-c.Done()
	}
}

func TestHalfAConnectTakesLittleMoreThanItsLength(t *testing.T) {
	threat.Row(t, 14, 0)
	runtime.GC() // twice: the pool may have longer buffers, of which there are few
	runtime.GC()
	var s stream
	for s.to < 4000 {
		n := min(len(s.room(false)), 4000-s.to)
		s.arrived(n)
	}
	if n := len(s.room(false)) + s.to; n > 4000+3*strangersSpace {
		t.Errorf("space for %d bytes, of which 4000 came", n)
	}
}

func TestSpaceGrowsWithWhatComesAndShrinksWithIt(t *testing.T) {
	p := wired(t, Limits{}).join(connect4)
	big := append(assemble(t, `30 80A003 "a"`), make([]byte, 53248-3)...)
	for range 3 {
		go p.client.Write(big)
		if _, err := io.ReadFull(p, make([]byte, len(big))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.in.room(true)); n < 2*ownSpace || n > keptBuffer {
		t.Errorf("room for %d bytes after many", n)
	}
	for range 2 {
		p.send(`C0 00`)
		p.expect(`C0 00`)
	}
	if n := len(p.in.room(true)); n != ownSpace || p.in.more != nil {
		t.Errorf("room for %d bytes after few", n)
	}
}

func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{}).join(connect4)
		p.client.SetDeadline(time.Now().Add(time.Minute))
		packet := assemble(t, `30 .. "a" 'hello'`)
		go func() {
			p.client.Write(packet[:5])
			p.client.Write(packet[5:])
		}()
		p.expect(`30 .. "a" 'hello'`)
		p.Write(packet)
		io.ReadFull(p.client, packet)
		synctest.Wait()
		if p.in.more != nil || p.out.waiting != nil || p.out.writing {
			t.Error("something is held")
		}
		p.end()
	})
}
