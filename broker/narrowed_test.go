package broker

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// What waits behind the window of an MQTT client that leaves a room, or loses it, is
// told of, and does not come any more.

// behindTheWindow has an offer and two messages wait for cam1, which has yet to
// acknowledge its hello.
func behindTheWindow(t *testing.T, b *Broker) (alice *inProc, cam net.Conn, session *Session) {
	t.Helper()
	alice = b.open(t, peerOf("alice", "garage")).join("garage")
	cam = pipe(t, b, connect5("cam1", "", 0x21, 0, 1)) // receive maximum 1
	send(t, cam, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "cam1")), []byte{1}, text("rtc/v1/garage/all/+"), []byte{1}))
	receive(t, cam) // SUBACK
	receive(t, cam) // hello, and no PUBACK
	for _, m := range []string{`{"type":"offer","session":"k3","sdp":""}`, `{"type":"x-1"}`, `{"type":"x-2"}`} {
		if err := alice.say("cam1", "%s", m); err != nil {
			t.Fatal(err)
		}
	}
	if err := alice.s.Publish(topics.Address{Room: "garage", Kind: topics.All, Src: "alice"}, []byte(`{"type":"x-all"}`)); err != nil {
		t.Fatal(err)
	}
	alice.types()
	for _, s := range b.allSessions() {
		if s.peer == "cam1" {
			session = s
		}
	}
	return alice, cam, session
}

// rest is all that comes until the server has nothing more to say.
func rest(t *testing.T, conn net.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // of fake time
	all, _ := io.ReadAll(conn)
	return string(all)
}

func TestSendersHearWhenAnMQTTClientLeavesWithTheirMessagesBehindItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
		alice, cam, _ := behindTheWindow(t, b)
		send(t, cam, packet(0x31, text("rtc/v1/garage/peers/cam1"), []byte{0}))
		synctest.Wait()
		alice.expect("offline offline offline -cam1")
		_ = cam.Close()
		synctest.Wait()
		alice.expect("")
		if n := b.Queued.Load(); n != 0 {
			t.Errorf("%d bytes are counted", n)
		}
	})
}

func TestWhatWaitsBehindTheWindowOfARevokedMQTTClientDoesNotComeAndIsTold(t *testing.T) {
	threat.Row(t, 7, threat.TCP5)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
		alice, cam, session := behindTheWindow(t, b)
		ask := topics.Address{Room: "garage", Kind: topics.Direct, Dst: topics.Server, Src: "cam1"}
		if err := session.Publish(ask, []byte(`{"type":"ice"}`)); err != nil {
			t.Fatal(err)
		}
		if err := session.Renew(topics.Identity{Name: "cam1"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		alice.expect("offline offline offline -cam1")
		send(t, cam, []byte{0x40, 2, 0, 1}) // of the hello
		got := rest(t, cam)
		if strings.Contains(got, "offer") || strings.Contains(got, "x-") || strings.Contains(got, `"type":"ice"`) {
			t.Errorf("it got %q", got)
		}
		if !strings.Contains(got, `"code":403`) {
			t.Errorf("it was not told: %q", got)
		}
	})
}

func TestAnMQTTClientThatLeavesHearsWhatBecameOfItsOwnMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		_, cam, session := behindTheWindow(t, b)
		bob.s.Close(false)
		to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "bob", Src: "cam1"}
		if err := session.Publish(to, []byte(`{"type":"x-lost"}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second) // bob is given up
		send(t, cam, packet(0x31, text("rtc/v1/garage/peers/cam1"), []byte{0}))
		synctest.Wait()
		told := 0
		for id := range byte(4) {
			send(t, cam, []byte{0x40, 2, 0, id + 1})
			got := rest(t, cam)
			told += strings.Count(got, `"about":"x-lost"`)
			if strings.Contains(got, `x-1`) {
				t.Error(fmt.Sprint("it got ", got))
			}
		}
		if told != 1 {
			t.Errorf("it was told %d times", told)
		}
	})
}
