package broker

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// soon is a grace that tests wait for; long is one that must not pass.
const (
	soon = 50 * time.Millisecond
	long = time.Minute
)

func TestPresenceCarriesSinceAndViaAndWhatThePeerSaid(t *testing.T) {
	s := serve(t, Config{})
	cam := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	cam.publish("rtc/v1/garage/peers/cam1", `{"online":true,"role":"camera","since":7,"via":"carrier pigeon","max":4096}`, 1)
	alice := s.client5(t, "alice").subscribe("rtc/v1/garage/peers/+")
	g := alice.next()
	var p struct {
		Online bool
		Role   string
		Since  int64
		Via    string
		Max    int
	}
	if err := json.Unmarshal([]byte(g.payload), &p); err != nil {
		t.Fatal(err)
	}
	if !p.Online || p.Role != "camera" || p.Via != "mqtt" || p.Max != 4096 || time.Since(time.Unix(p.Since, 0)).Abs() > time.Minute || !g.retained {
		t.Errorf("got %v, retained %v", g, g.retained)
	}
}

func TestFirstSubscriptionToTheInboxIsAJoin(t *testing.T) {
	s := serve(t, Config{})
	alice := s.client5(t, "alice").subscribe("rtc/v1/garage/peers/+")
	cam := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	if g := alice.next(); !strings.HasPrefix(g.payload, `{"online":true,"since":`) || g.retained {
		t.Errorf("got %v, retained %v", g, g.retained)
	}
	cam.expect(`rtc/v1/garage/to/cam1/_ {"type":"hello","room":"garage","peer":"cam1","iceServers":[],"ttl":3600,"max":65536}`)
	cam.subscribe(inbox("garage", "cam1")) // again: not another join
	cam.quiet("garage")
}

func TestEveryWayToLeaveEmptiesThePresenceAndEndsTheCalls(t *testing.T) {
	for name, leave := range map[string]func(*mqttPeer){
		"empty payload":      func(p *mqttPeer) { p.publish("rtc/v1/garage/peers/cam1", "", 1) },
		"online false":       func(p *mqttPeer) { p.publish("rtc/v1/garage/peers/cam1", `{"online":false}`, 1) },
		"DISCONNECT":         func(p *mqttPeer) { p.leave() },
		"connection lost":    func(p *mqttPeer) { p.cut() },
		"protocol error":     func(p *mqttPeer) { _, _ = p.conn.Write([]byte{0x10, 0x00}) },
		"half a packet, FIN": func(p *mqttPeer) { _, _ = p.conn.Write([]byte{0x30}); p.cut() },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Config{Grace: soon})
			cam := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
			alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"), "rtc/v1/garage/peers/+")
			alice.until("rtc/v1/garage/peers/cam1 online")
			alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k3"}`, 1)
			cam.until("rtc/v1/garage/to/cam1/alice offer")
			s.acknowledged(t)
			leave(cam)
			alice.expect(`rtc/v1/garage/to/alice/cam1 {"type":"bye","session":"k3","reason":"gone"}`, "rtc/v1/garage/peers/cam1")
			alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k4"}`, 1)
			alice.expect(`rtc/v1/garage/to/alice/_ "code":404`)
		})
	}
}

func TestPeerThatIsBackInTimeDoesNotFlapAndGetsWhatWaited(t *testing.T) {
	s := serve(t, Config{Grace: long})
	presence := `{"online":true,"role":"camera"}`
	cam := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	cam.publish("rtc/v1/garage/peers/cam1", presence, 1)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"), "rtc/v1/garage/peers/+")
	alice.until("rtc/v1/garage/peers/cam1 camera")
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k1"}`, 1)
	cam.until("rtc/v1/garage/to/cam1/alice k1")
	s.acknowledged(t)

	cam.cut()
	waitFor(t, "the loss of cam1 to be noticed", func() bool { return s.connections() == 1 })
	for _, m := range []string{`{"type":"offer","session":"k2"}`, `{"type":"candidate","session":"k2","candidate":"1"}`, `{"type":"candidate","session":"k2","candidate":""}`} {
		if code := alice.publish("rtc/v1/garage/to/cam1/alice", m, 1); code != 0 {
			t.Fatalf("PUBACK %#x while cam1 is expected back", code)
		}
	}
	back := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	back.publish("rtc/v1/garage/peers/cam1", presence, 1)
	back.expect("rtc/v1/garage/to/cam1/_ hello")
	back.expect("rtc/v1/garage/to/cam1/alice k2", `rtc/v1/garage/to/cam1/alice "candidate":"1"`, `rtc/v1/garage/to/cam1/alice "candidate":""`)
	alice.quiet("garage")
}

func TestWhatWaitedForAPeerThatStaysAwayIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, Config{})
		b.Authenticate = hub
		cam, alice := pipe(t, b, connect5("c", "cam1")), pipe(t, b, connect5("a", "alice"))
		listen(t, cam, inbox("garage", "cam1"))
		listen(t, alice, inbox("garage", "alice"))
		_ = cam.Close()
		synctest.Wait()
		begin := time.Now()
		send(t, alice, packet(0x32, text("rtc/v1/garage/to/cam1/alice"), []byte{0, 9, 0}, []byte(`{"type":"offer","session":"k2"}`)))
		if ack := parsed(t, 5, receive(t, alice)); ack.FixedHeader.Type != packets.Puback || ack.ReasonCode != 0 {
			t.Errorf("got %+v, want PUBACK", ack)
		}
		want := `{"type":"error","code":480,"reason":"offline","message":"cam1 is offline in garage","temporary":true,"session":"k2","to":"cam1","about":"offer"}`
		if got := told(t, alice); got != want {
			t.Errorf("alice was told %s\nwant %s", got, want)
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("it took %v, the grace is 5 s", took)
		}
		send(t, alice, []byte{0xC0, 0})
		if got := receive(t, alice); got[0] != 0xD0 {
			t.Errorf("got % x, nothing was to come", got)
		}
	})
}

func TestPeerThatJoinedByItsPresenceAloneIsThereButNotReachable(t *testing.T) {
	s := serve(t, Config{Grace: soon})
	cam := s.client3(t, "cam1")
	cam.publish("rtc/v1/garage/peers/cam1", `{"online":true}`, 1)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"), "rtc/v1/garage/peers/+")
	alice.until("rtc/v1/garage/peers/cam1 online")
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k2"}`, 1)
	alice.expect(`rtc/v1/garage/to/alice/_ "code":480`)
	waitFor(t, "the end of the grace", func() bool {
		code := alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg"}`, 1)
		alice.expect(`rtc/v1/garage/to/alice/_ "code":480`)
		return code == 0x10
	})
}

func TestPresenceBeforeTheInboxLosesNothing(t *testing.T) {
	s := serve(t, Config{Grace: long})
	cam := s.client3(t, "cam1")
	cam.publish("rtc/v1/garage/peers/cam1", `{"online":true}`, 1)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	if code := alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k2"}`, 1); code != 0 {
		t.Fatalf("PUBACK %#x", code)
	}
	cam.subscribe(inbox("garage", "cam1"))
	cam.expect("rtc/v1/garage/to/cam1/_ hello", "rtc/v1/garage/to/cam1/alice k2")
}

func TestLastWillIsPublishedWhenThePeerIsGivenUpNotBefore(t *testing.T) {
	s := serve(t, Config{Grace: 200 * time.Millisecond})
	cam := s.client3(t, "cam1", func(o *paho3.ClientOptions) {
		o.SetWill("rtc/v1/garage/all/cam1", `{"type":"msg","data":"i fell"}`, 1, false)
	}).subscribe(inbox("garage", "cam1"))
	alice := s.client5(t, "alice").subscribe("rtc/v1/garage/all/+", "rtc/v1/garage/peers/+")
	alice.until("rtc/v1/garage/peers/cam1 online")
	start := time.Now()
	cam.cut()
	alice.expect("rtc/v1/garage/all/cam1 i fell", "rtc/v1/garage/peers/cam1")
	if waited := time.Since(start); waited < 200*time.Millisecond {
		t.Errorf("the will came after %v, within the grace", waited)
	}
}

// mochi refuses an empty will before a hook is asked.
func TestLastWillThatEmptiesOnesPresenceIsTaken(t *testing.T) {
	s := serve(t, Config{Grace: soon})
	alice := s.client5(t, "alice").subscribe("rtc/v1/garage/peers/+")
	for _, payload := range []string{"", `{"online":false}`} {
		cam := s.client3(t, "cam1", func(o *paho3.ClientOptions) {
			o.SetWill("rtc/v1/garage/peers/cam1", payload, 1, true)
		}).subscribe(inbox("garage", "cam1"))
		alice.expect("rtc/v1/garage/peers/cam1 true")
		cam.cut()
		if g := alice.next(); g.payload != "" {
			t.Errorf("got %v", g)
		}
	}
}

func TestNoLastWillAfterDisconnectOrTakeover(t *testing.T) {
	s := serve(t, Config{Grace: soon})
	will := func(o *paho3.ClientOptions) {
		o.SetWill("rtc/v1/garage/all/cam1", `{"type":"msg","data":"i fell"}`, 1, false)
	}
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"), "rtc/v1/garage/all/+", "rtc/v1/garage/peers/+")
	alice.until("rtc/v1/garage/to/alice/_ hello")
	first := s.client3(t, "cam1", will).subscribe(inbox("garage", "cam1"))
	second := s.client3(t, "cam1", will).subscribe(inbox("garage", "cam1"))
	first.waitEnded()
	second.leave()
	alice.expect("rtc/v1/garage/peers/cam1 online", "rtc/v1/garage/peers/cam1")
	alice.quiet("garage")
}

func TestSameIdentityTakesOverAndTheOldOneIsTold(t *testing.T) {
	s := serve(t, Config{Grace: long})
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"), "rtc/v1/garage/peers/+")
	old := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	old.expect("rtc/v1/garage/to/cam1/_ hello")
	alice.until("rtc/v1/garage/peers/cam1 online")
	young := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	old.expect(`rtc/v1/garage/to/cam1/_ {"type":"error","code":409,"reason":"replaced"`)
	old.waitEnded()
	waitFor(t, "the end of the old connection", func() bool { return s.connections() == 2 })
	young.expect("rtc/v1/garage/to/cam1/_ hello")
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg"}`, 1)
	young.expect("rtc/v1/garage/to/cam1/alice msg")
	alice.quiet("garage") // no flap, and the late leave of the old one removed nothing
}

func TestTakeoverInOneRoomLeavesTheOthers(t *testing.T) {
	s := serve(t, Config{})
	old := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"), inbox("attic", "cam1"))
	old.expect("rtc/v1/garage/to/cam1/_ hello", "rtc/v1/attic/to/cam1/_ hello")
	s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	old.expect(`rtc/v1/garage/to/cam1/_ "code":409`)
	old.quiet("attic")
	old.publish("rtc/v1/garage/all/cam1", `{"type":"msg"}`, 1) // 403, and no inbox left there to be told
	old.quiet("attic")
}

// Its client may have sent the second half of its own join before it was told.
func TestReplacedConnectionDoesNotTakeItsPeerBack(t *testing.T) {
	b := newBroker(t, Config{})
	old := b.open(t, peerOf("cam1", "garage")).join("garage")
	young := b.open(t, peerOf("cam1", "garage")).join("garage")
	if err := old.s.Subscribe(inbox("garage", "cam1")); err == nil {
		t.Error("it subscribes after it was replaced")
	}
	presence := topics.Address{Room: "garage", Kind: topics.Presence, Src: "cam1"}
	if err := old.s.Publish(presence, []byte(`{"online":true}`)); err == nil {
		t.Error("it joins after it was replaced")
	}
	alice := b.open(t, peerOf("alice", "garage")).join("garage")
	to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: "cam1", Src: "alice"}
	if err := alice.s.Publish(to, []byte(`{"type":"msg"}`)); err != nil {
		t.Error(err)
	}
	if got := young.types(); !strings.Contains(got, "msg") {
		t.Errorf("the newest connection got %q", got)
	}
}

func TestThreeHundredTakeoversLeaveExactlyOneAlive(t *testing.T) {
	threat.Row(t, 4, threat.TCP3)
	s := serve(t, Config{Grace: long})
	bob := s.client3(t, "bob").subscribe(inbox("garage", "bob"))
	const racers = 300
	peers := make(chan *mqttPeer, racers)
	var race sync.WaitGroup
	limit := make(chan struct{}, 20)
	for range racers {
		race.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			p := s.client3(t, "cam1")
			p.trySubscribe(inbox("garage", "cam1"), 1)
			peers <- p
		})
	}
	race.Wait()
	waitFor(t, "the replaced ones to be cut", func() bool { return s.connections() == 2 })
	bob.publish("rtc/v1/garage/to/cam1/bob", `{"type":"msg","data":"who is there"}`, 1)
	heard := make(chan got, racers)
	close(peers)
	for p := range peers {
		go func() {
			for {
				select {
				case g := <-p.received:
					if strings.Contains(g.payload, "who is there") {
						heard <- g
						return
					}
				case <-p.ended:
					return
				case <-t.Context().Done():
					return
				}
			}
		}()
	}
	select {
	case <-heard:
	case <-time.After(patience):
		t.Error("nobody heard it")
	}
}

func TestMessageToAllReachesEveryoneElse(t *testing.T) {
	s := serve(t, Config{})
	var peers []*mqttPeer
	for _, name := range []string{"a", "b", "c"} {
		p := s.client3(t, name).subscribe(inbox("garage", name), "rtc/v1/garage/all/+")
		p.expect("rtc/v1/garage/to/" + name + "/_ hello")
		peers = append(peers, p)
	}
	peers[0].publish("rtc/v1/garage/all/a", `{"type":"msg","data":"hi"}`, 1)
	peers[1].expect("rtc/v1/garage/all/a hi")
	peers[2].expect("rtc/v1/garage/all/a hi")
	peers[0].quiet("garage")
}

func TestRoomsAndPeersDoNotPileUp(t *testing.T) {
	s := serve(t, Config{Grace: -1})
	for range 50 {
		cam := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"), "rtc/v1/attic/peers/+")
		cam.leave()
	}
	waitFor(t, "the rooms to end", func() bool {
		rooms := 0
		s.rooms.Range(func(any, any) bool { rooms++; return true })
		return rooms == 0 && s.connections() == 0 && s.engine.Clients.Len() == 0 && len(*s.watchers.Load()) == 0
	})
}

// connections counts the MQTT connections of the server.
func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// acknowledged waits until every client has acknowledged all it was sent.
func (s *server) acknowledged(t *testing.T) {
	t.Helper()
	waitFor(t, "the acknowledgements", func() bool {
		for _, c := range s.everyone() {
			c.mu.Lock()
			n := len(c.inFlight.items())
			c.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	})
}

// waitFor waits until what is true.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestAPeerIsGreetedWhenItsFilterIsForTheServerToo(t *testing.T) {
	s := serve(t, Config{})
	cam := s.client3(t, "cam1").subscribe("rtc/v1/garage/to/cam1/alice")
	cam.subscribe(inbox("garage", "cam1"))
	cam.expect("rtc/v1/garage/to/cam1/_ hello")
	cam.subscribe(inbox("garage", "cam1"))
	cam.quiet("garage")
}
