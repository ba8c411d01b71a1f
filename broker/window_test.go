package broker

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/beckon-rtc/beckon/broker/guard"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// slowCamera is cam1 over a pipe: it reads all that comes, and acknowledges one
// message after the other, each after its time; after 0, none.
type slowCamera struct {
	conn   net.Conn
	served chan struct{} // closed when the server has ended the connection
	words  string        // the reason string of its DISCONNECT
}

func newSlowCamera(t *testing.T, b *Broker, each time.Duration, properties ...byte) *slowCamera {
	t.Helper()
	server, conn := net.Pipe()
	cam := &slowCamera{conn: conn, served: make(chan struct{})}
	go func() {
		defer close(cam.served)
		b.ServeConn(server)
	}()
	came := make(chan []byte, 10_000) // identifiers
	go func() {
		defer close(came)
		for r := bufio.NewReader(conn); ; {
			first, err := r.ReadByte()
			if err != nil {
				return
			}
			n, _ := binary.ReadUvarint(r)
			body := make([]byte, n)
			_, _ = io.ReadFull(r, body)
			switch {
			case first == 0xE0:
				cam.words = string(body[min(5, len(body)):])
			case first>>1 == 0x32>>1: // PUBLISH of QoS 1
				topic := binary.BigEndian.Uint16(body)
				came <- body[2+topic : 4+topic]
			}
		}
	}()
	go func() {
		defer conn.Close()
		_, _ = conn.Write(packet(0x40, <-came)) // of the hello
		for id := range came {
			if each > 0 {
				time.Sleep(each) // of fake time
				_, _ = conn.Write(packet(0x40, id))
			}
		}
	}()
	send(t, conn, connect5("cam1", "", properties...))
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "cam1")), []byte{1}))
	synctest.Wait()
	_ = conn.SetWriteDeadline(time.Time{})
	return cam
}

// alive reports whether it is connected.
func (c *slowCamera) alive() bool {
	select {
	case <-c.served:
		return false
	default:
		return true
	}
}

func (c *slowCamera) leave() {
	_ = c.conn.Close()
	<-c.served
	synctest.Wait()
}

// fill says so many messages of that size to cam1, and returns how many were taken.
func fill(t *testing.T, from *inProc, n, size int) (taken int) {
	t.Helper()
	for range n {
		err := from.say("cam1", `{"type":"msg","data":"%s"}`, strings.Repeat("x", size))
		switch {
		case err == nil:
			taken++
		case topics.AsError(err).Code != topics.Busy:
			t.Fatal(err)
		}
	}
	synctest.Wait()
	return taken
}

func TestWhatIsNotAcknowledgedIsBoundedInBytes(t *testing.T) {
	threat.Row(t, 19, 0)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage")), Queue: 1 << 20})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := newSlowCamera(t, b, 0)
		if taken := fill(t, alice, 100, 60_000); taken < 30 || taken > 35 { // a megabyte on its way, another waits
			t.Errorf("%d messages of 60 kB were taken", taken)
		}
		cam.leave()
	})
}

func TestWhoReadsAndAcknowledgesNothingIsCutOffAndItsSendersAreTold(t *testing.T) {
	threat.Row(t, 19, 0)
	for _, c := range []struct {
		name    string
		n, size int
	}{
		{"too many bytes", 40, 30_000},
		{"too many messages", sendWindow + 10, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage")), MaxHeld: -1})
				alice := b.open(t, peerOf("alice", "garage")).join("garage")
				cam := newSlowCamera(t, b, 0)
				alice.types()
				begin := time.Now()
				if taken := fill(t, alice, c.n, c.size); taken != c.n {
					t.Fatalf("%d were taken", taken)
				}
				<-cam.served
				if took := time.Since(begin); took != 5*time.Second {
					t.Errorf("cut off after %v", took)
				}
				time.Sleep(5 * time.Second) // its grace
				synctest.Wait()
				if got := alice.types(); strings.Count(got, "offline") != c.n {
					t.Errorf("of %d messages alice heard %q", c.n, got)
				}
				if !strings.Contains(cam.words, "not acknowledged") {
					t.Errorf("the client was told %q", cam.words)
				}
			})
		})
	}
}

func TestWhoAcknowledgesSlowlyStays(t *testing.T) {
	for _, c := range []struct {
		name       string
		each       time.Duration
		n, size    int
		properties []byte
	}{
		{"bytes, one in four seconds", 4 * time.Second, 60, 30_000, nil},
		{"messages, one in four seconds", 4 * time.Second, sendWindow + 10, 10, nil},
		{"64 KiB in nine seconds", 9 * time.Second, 20, 65_000, nil},
		{"busy with one for nineteen seconds", 19 * time.Second, 10, 10, []byte{0x21, 0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
				alice := b.open(t, peerOf("alice", "garage")).join("garage")
				cam := newSlowCamera(t, b, c.each, c.properties...)
				if taken := fill(t, alice, c.n, c.size); taken != c.n {
					t.Fatalf("%d were taken", taken)
				}
				time.Sleep(time.Duration(c.n+2) * c.each)
				synctest.Wait()
				if !cam.alive() {
					t.Fatalf("it was cut off: %s", cam.words)
				}
				for client := range b.clients {
					client.mu.Lock()
					if client.unacked != 0 || !client.waiting.empty() || client.stall != nil && client.isFull() {
						t.Errorf("%d bytes are not acknowledged", client.unacked)
					}
					client.mu.Unlock()
				}
				cam.leave()
			})
		})
	}
}

func TestWhoAsksForOneAtATimeAndNeverAcknowledgesItIsCutOffWhenOthersWouldHaveWaitedInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := newSlowCamera(t, b, 0, 0x21, 0, 1)
		alice.types()
		begin := time.Now()
		fill(t, alice, 2, 10)
		<-cam.served
		if took := time.Since(begin); took != 20*time.Second {
			t.Errorf("cut off after %v", took)
		}
		synctest.Wait()
		alice.expect("offline offline")
	})
}

func TestWhoHasNothingWaitingMayAcknowledgeWhenItLikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := newSlowCamera(t, b, 0)
		fill(t, alice, sendWindow/2, 10)
		time.Sleep(time.Minute)
		if !cam.alive() {
			t.Error(fmt.Sprint("it was cut off: ", cam.words))
		}
		cam.leave()
	})
}

func TestAnAcknowledgementOfTheWrongTypeIsNoSignOfLife(t *testing.T) {
	threat.Row(t, 19, threat.TCP5)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := newSlowCamera(t, b, 0)
		begin := time.Now()
		fill(t, alice, 40, 30_000)
		_ = cam.conn.SetWriteDeadline(time.Time{})
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range 10 {
				time.Sleep(4 * time.Second)
				if _, err := cam.conn.Write([]byte{0x70, 2, 0, 2}); err != nil { // PUBCOMP, of QoS 1
					return
				}
			}
		}()
		<-cam.served
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("cut off after %v", took)
		}
		<-stop
		synctest.Wait()
	})
}

func TestARepeatedPubrecCountsAsAPacket(t *testing.T) {
	threat.Row(t, 23, threat.TCP5)
	b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	c := newClient(b, ours)
	defer func() {
		_ = c.Close()
		_ = theirs.Close()
		<-c.Done()
	}()
	c.mochi.Store(b.engine.NewClient(c, "", "", false))
	c.inFlight.push(outgoing{m: &message{}, id: 7, step: awaitPubrec})
	for i, want := range []bool{true, false, false} {
		if got := c.acknowledged(guard.Ack{Type: packets.Pubrec, ID: 7}); got != want {
			t.Errorf("PUBREC %d is awaited: %v", i, got)
		}
	}
	for _, kind := range []byte{packets.Puback, packets.Pubcomp, packets.Pubcomp} {
		want := kind == packets.Pubcomp && len(c.inFlight.items()) > 0
		if got := c.acknowledged(guard.Ack{Type: kind, ID: 7}); got != want {
			t.Errorf("type %d is awaited: %v", kind, got)
		}
	}
}
