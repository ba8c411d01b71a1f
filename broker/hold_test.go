package broker

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// asleep opens a broker with a device cam1 that is listed and offline.
func asleep(t *testing.T, c Config) *Broker {
	t.Helper()
	b := newBroker(t, c)
	b.open(t, device()).join("garage").s.Close(true)
	return b
}

func device() topics.Identity {
	id := peerOf("cam1", "garage")
	id.Device = true
	return id
}

func (p *inProc) say(to, format string, args ...any) error {
	return p.s.Publish(topics.Address{Room: "garage", Kind: topics.Direct, Dst: to, Src: p.name}, fmt.Appendf(nil, format, args...))
}

func TestOfferToADeviceThatIsOfflineWaitsAndWakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := ""
		b := asleep(t, Config{Wake: func(room, peer, from, session string) { woken += fmt.Sprintln(room, peer, from, session) }})
		gateway := b.open(t, topics.Identity{Name: "gw", Grants: []topics.Grant{{Room: "garage", Role: topics.Observer}}})
		if err := gateway.s.Subscribe("rtc/v1/garage/wake/cam1"); err != nil {
			t.Fatal(err)
		}
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		alice.types()
		for _, m := range []string{`{"type":"offer","session":"k3"}`, `{"type":"candidate","session":"k3","candidate":"1"}`, `{"type":"candidate","session":"k3","candidate":""}`} {
			if err := alice.say("cam1", "%s", m); err != nil {
				t.Fatal(err)
			}
		}
		if woken != "garage cam1 alice k3\n" {
			t.Errorf("woken: %q", woken)
		}
		gateway.mu.Lock()
		if len(gateway.in) != 1 || string(gateway.in[0].Payload) != `{"type":"wake","for":"alice","session":"k3"}` {
			t.Errorf("the gateway got %v", gateway.in)
		}
		gateway.mu.Unlock()
		time.Sleep(19 * time.Second)
		cam := b.open(t, device()).join("garage")
		cam.expect("+alice hello offer candidate candidate")
		alice.expect("+cam1")
	})
}

func TestOfferToADeviceThatIsNotWokenInTimeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		alice.types()
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		time.Sleep(21 * time.Second)
		synctest.Wait()
		alice.expect("offline")
		b.open(t, device()).join("garage").expect("+alice hello")
	})
}

func TestNewerOfferTakesThePlaceOfTheOneThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		bob := b.open(t, peerOf("bob", "garage")).join("garage")
		alice.types()
		bob.types()
		for _, err := range []error{
			alice.say("cam1", `{"type":"offer","session":"k1"}`), alice.say("cam1", `{"type":"candidate","session":"k1"}`),
			bob.say("cam1", `{"type":"offer","session":"b1"}`),
			alice.say("cam1", `{"type":"offer","session":"k2"}`),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		alice.expect("offline offline") // about k1, of which both were accepted
		bob.expect("")
		cam := b.open(t, device()).join("garage")
		cam.mu.Lock()
		var sessions []string
		for _, d := range cam.in {
			if d.Session != "" {
				sessions = append(sessions, d.Type+" "+d.Session)
			}
		}
		cam.mu.Unlock()
		if got := fmt.Sprint(sessions); got != "[offer b1 offer k2]" {
			t.Errorf("the device got %s", got)
		}
	})
}

func TestHoldIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{MaxHeld: 3})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		for i := range 3 {
			if err := alice.say("cam1", `{"type":"msg","data":%d}`, i); err != nil {
				t.Fatal(err)
			}
		}
		if err := alice.say("cam1", `{"type":"msg","data":3}`); topics.AsError(err).Code != topics.Busy {
			t.Errorf("message 4: %v", err)
		}
	})
}

func TestOneSenderDoesNotKeepOthersFromASleepingDevice(t *testing.T) {
	for name, payload := range map[string]string{
		"by many messages": `{"type":"x-1"}`,
		"by long messages": `{"type":"x-1","data":"` + strings.Repeat("x", 60_000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := asleep(t, Config{})
				vera := b.open(t, topics.Identity{Name: "vera", Grants: []topics.Grant{{Room: "garage", Role: topics.Viewer, Of: "cam1"}}}).join("garage")
				taken := 0
				for ; taken < 64; taken++ {
					if err := vera.say("cam1", "%s", payload); err != nil {
						if topics.AsError(err).Code != topics.Busy {
							t.Error(err)
						}
						break
					}
				}
				if taken == 0 || taken > 32 || taken*len(payload) > 512<<10 {
					t.Errorf("%d messages of %d bytes were taken", taken, len(payload))
				}
				alice := b.open(t, peerOf("alice", "garage")).join("garage")
				if err := alice.say("cam1", `{"type":"offer","session":"k1"}`); err != nil {
					t.Error(err)
				}
				for range 20 {
					if err := alice.say("cam1", `{"type":"candidate","session":"k1","candidate":"1"}`); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestWhatIsHeldIsBoundedInBytesAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{})
		long := `{"type":"msg","data":"` + strings.Repeat("x", 60_000) + `"}`
		held := 0
		for i := range 5 {
			p := b.open(t, peerOf(fmt.Sprintf("alice%d", i), "garage")).join("garage")
			for p.say("cam1", "%s", long) == nil {
				held++
			}
		}
		if n := held * len(long); n > 1<<20 || n < 900_000 {
			t.Errorf("%d bytes are held", n)
		}
		if n := b.Queued.Load(); n != int64(held*len(long)) {
			t.Errorf("%d bytes are counted, of %d", n, held*len(long))
		}
		time.Sleep(21 * time.Second)
		if n := b.Queued.Load(); n != 0 {
			t.Errorf("%d bytes are counted when nothing is held any more", n)
		}
		if err := b.open(t, peerOf("bob", "garage")).join("garage").say("cam1", "%s", long); err != nil {
			t.Fatal(err)
		}
		b.open(t, device()).join("garage")
		if n := b.Queued.Load(); n != 0 {
			t.Errorf("%d bytes are counted when the device has them", n)
		}
	})
}

func TestWhatCameDueWithoutHavingReachedItsReceiverIsNotToldAsUnacknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		if err := alice.say("cam1", `{"type":"offer","session":"k3"}`); err != nil {
			t.Fatal(err)
		}
		r := b.enter("garage", false)
		r.peers["cam1"].waiting[0].Until = time.Now() // and late has not run yet
		r.leave()
		b.open(t, device()).join("garage").expect("+alice hello")
		alice.mu.Lock()
		last := string(alice.in[len(alice.in)-1].Payload)
		alice.mu.Unlock()
		if !strings.Contains(last, `"code":480`) || strings.Contains(last, "acknowledge") {
			t.Errorf("alice was told %s", last)
		}
	})
}

// laden is a PUBLISH of QoS 1 to cam1 whose properties have 60 kB.
func laden() []byte {
	const n = 60_000
	properties := append(append([]byte{9}, byte(n>>8), byte(n&0xff)), make([]byte, n)...) // correlation data
	size := []byte{byte(len(properties)&0x7f | 0x80), byte(len(properties)>>7&0x7f | 0x80), byte(len(properties) >> 14)}
	return packet(0x32, text("rtc/v1/garage/to/cam1/alice"), []byte{0, 9}, size, properties, []byte(`{"type":"x-1"}`))
}

func TestPropertiesOfWhatIsHeldAreBoundedAndCounted(t *testing.T) {
	threat.Row(t, 22, threat.TCP5)
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{})
		b.Authenticate = hub
		alice := pipe(t, b, connect5("a", "alice"))
		listen(t, alice, inbox("garage", "alice"))
		go func() { _, _ = io.Copy(io.Discard, alice) }()
		for range 30 {
			send(t, alice, laden())
		}
		synctest.Wait()
		r := b.enter("garage", false)
		defer r.leave()
		held := len(r.peers["cam1"].waiting)
		if held != 8 { // half a megabyte
			t.Errorf("%d messages of 60 kB are held for one sender", held)
		}
		if n := b.Queued.Load(); n < int64(held)*60_000 {
			t.Errorf("%d bytes are counted", n)
		}
	})
}

func TestPropertiesOfWhatWaitsForAClientOfMQTT3AreBounded(t *testing.T) {
	threat.Row(t, 22, threat.TCP5)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		b.Authenticate = hub
		cam := pipe(t, b, connect3("c", "cam1"))
		send(t, cam, packet(0x82, []byte{0, 1}, text(inbox("garage", "cam1")), []byte{1}))
		receive(t, cam) // SUBACK
		receive(t, cam) // hello
		go func() { _, _ = io.Copy(io.Discard, cam) }()
		alice := pipe(t, b, connect5("a", "alice"))
		listen(t, alice, inbox("garage", "alice"))
		taken := 0
		for ; taken < 100; taken++ {
			send(t, alice, laden())
			if ack := parsed(t, 5, receive(t, alice)); ack.ReasonCode != 0 {
				break
			}
		}
		if taken < 30 || taken > 36 { // a megabyte is not acknowledged, another waits
			t.Errorf("%d messages of 60 kB were taken", taken)
		}
	})
}

func TestWhatWaitedForADeviceThatTakesLessNowIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := asleep(t, Config{MaxSessions: 1})
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		if err := alice.say("cam1", `{"type":"offer","session":"k1","sdp":"%s"}`, strings.Repeat("x", 10_000)); err != nil {
			t.Fatal(err)
		}
		alice.types()
		cam := b.open(t, device())
		if err := cam.s.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: "cam1"}, []byte(`{"online":true,"max":4096}`)); err != nil {
			t.Fatal(err)
		}
		cam.join("garage").expect("+alice hello")
		alice.expect("+cam1 too-large")
		if err := alice.say("cam1", `{"type":"offer","session":"k2"}`); err != nil {
			t.Errorf("the session that never began is open: %v", err)
		}
	})
}

func TestADeviceThatComesBackBySubscribingTakesNoMoreThanBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		cam := b.open(t, device())
		if err := cam.s.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: "cam1"}, []byte(`{"online":true,"max":4096}`)); err != nil {
			t.Fatal(err)
		}
		cam.join("garage").s.Close(true)
		alice := b.open(t, peerOf("alice", "garage")).join("garage")
		long := func(when string, want topics.Code) {
			t.Helper()
			var got topics.Code
			if err := alice.say("cam1", `{"type":"msg","data":"%s"}`, strings.Repeat("x", 10_000)); err != nil {
				got = topics.AsError(err).Code
			}
			if got != want {
				t.Errorf("%s: code %d, want %d", when, got, want)
			}
		}
		long("asleep", topics.TooLarge)
		cam = b.open(t, device()).join("garage")
		long("back", topics.TooLarge)
		if err := cam.s.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: "cam1"}, []byte(`{"online":true}`)); err != nil {
			t.Fatal(err)
		}
		long("and without a limit", 0)
	})
}
