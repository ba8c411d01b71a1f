package broker

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// A message has one deadline, from when it was accepted, however often its receiver
// comes, is sent it, and is lost before it acknowledges it.

// flapping has cam1 be there for 3 s of every 5, by connect, which returns how the
// connection is lost, while alice says something to it that it never acknowledges.
// It returns when alice was told what became of that.
func flapping(t *testing.T, b *Broker, id topics.Identity, connect func() (lose func())) time.Duration {
	t.Helper()
	alice := b.open(t, peerOf("alice", "garage")).join("garage")
	lose := connect()
	begin := time.Now()
	if err := alice.say("cam1", `{"type":"x-once"}`); err != nil {
		t.Fatal(err)
	}
	alice.types()
	for range 40 {
		for range 3 {
			time.Sleep(time.Second)
			synctest.Wait()
			if alice.types() == "offline" {
				lose()
				return time.Since(begin)
			}
		}
		lose()
		for range 2 {
			time.Sleep(time.Second)
			synctest.Wait()
			if alice.types() == "offline" {
				return time.Since(begin)
			}
		}
		lose = connect()
	}
	t.Error("after 200 s alice was told nothing")
	lose()
	return 0
}

func TestASenderHearsInTimeOfAReceiverThatComesAndGoes(t *testing.T) {
	for name, id := range map[string]topics.Identity{"a guest": peerOf("cam1", "garage"), "a device": device()} {
		t.Run(name+" by a door that proves nothing", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, Config{})
				took := flapping(t, b, id, func() func() {
					cam := &unproven{inProc: &inProc{t: t, name: "cam1"}}
					var err error
					if cam.s, err = b.Connect(id, "ws", cam); err != nil {
						t.Fatal(err)
					}
					cam.join("garage")
					return func() { cam.s.Close(false) }
				})
				if took != 20*time.Second {
					t.Errorf("told after %v", took)
				}
			})
		})
		t.Run(name+" by MQTT without a PUBACK", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, Config{Authenticate: authenticated(id)})
				took := flapping(t, b, id, func() func() {
					return deafCamera(t, b)
				})
				if took != 20*time.Second {
					t.Errorf("told after %v", took)
				}
			})
		})
	}
}

// deafCamera is cam1 over a pipe, which reads and acknowledges nothing.
func deafCamera(t *testing.T, b *Broker) (lose func()) {
	t.Helper()
	server, conn := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		b.ServeConn(server)
	}()
	go io.Copy(io.Discard, conn)
	send(t, conn, connect5("cam1", ""))
	send(t, conn, packet(0x82, []byte{0, 1, 0}, text(inbox("garage", "cam1")), []byte{1}))
	synctest.Wait()
	return func() {
		_ = conn.Close()
		<-served
	}
}

func TestASenderHearsInTimeOfASessionThatIsSuspendedAndResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := b.open(t, peerOf("cam1", "garage")).join("garage")
		cam.s.Suspend(time.Minute)
		alice.types()
		cam.types()
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := alice.say("cam1", `{"type":"x-later"}`); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		alice.expect("")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		alice.expect("offline")
		if err := cam.s.Resume(); err != nil {
			t.Error(err)
		}
		cam.expect("x-later")
	})
}

func TestWhatAConnectionHadBeyondTheDeadlineIsToldWhenAnotherTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Authenticate: authenticated(peerOf("cam1", "garage"))})
		lose := deafCamera(t, b)
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		alice.types()
		for _, kind := range []string{"x-old", "x-young"} {
			if err := alice.say("cam1", `{"type":%q}`, kind); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Second)
		}
		b.open(t, peerOf("cam1", "garage")).join("garage").expect("+alice hello x-young")
		alice.expect("+cam1 offline")
		lose()
	})
}

func TestAByeWaitsForAPeerThatIsExpectedBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		cam := b.open(t, peerOf("cam1", "garage")).join("garage")
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		cam.s.Suspend(time.Minute)
		cam.types()
		alice.s.Close(true)
		time.Sleep(30 * time.Second)
		if err := cam.s.Resume(); err != nil {
			t.Error(err)
		}
		cam.expect("bye -alice")
	})
}

func TestTheGraceIsWaitedForThoughItIsLongerThanTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{Grace: time.Minute})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		b.open(t, peerOf("cam1", "garage")).join("garage").s.Close(false)
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		b.open(t, peerOf("cam1", "garage")).join("garage").expect("+alice hello offer")
	})
}
