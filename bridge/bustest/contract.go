package bustest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// Run holds a bus to the contract of [bridge.Bus] and PROTOCOL.md sections 1
// to 4. Each test opens a bus of its own with the default root, on which lost
// connections have the given grace: some hundred milliseconds, since it is
// waited for.
func Run(t *testing.T, open func(t *testing.T) bridge.Connect, grace time.Duration) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
	for _, c := range timed {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t), grace)
		})
	}
}

var contract = []struct {
	name string
	test func(*testing.T, bridge.Connect)
}{
	{"JoiningGivesHelloAndSnapshotBeforeSubscribeReturns", joining},
	{"JoiningByTheInboxAloneMakesAPresence", joiningByInbox},
	{"SubscribingAgainTellsAgainAndDeliversOnce", subscribingAgain},
	{"OthersSeeWhoJoinsWithSinceAndVia", seen},
	{"PresenceIsUpdatedAndLatecomersSeeTheNewest", updated},
	{"NobodySeesOnesOwnPresence", noOwnPresence},
	{"AnEmptyPresenceLeaves", func(t *testing.T, b bridge.Connect) { leaves(t, b, "") }},
	{"AnOfflinePresenceLeaves", func(t *testing.T, b bridge.Connect) { leaves(t, b, topics.PresenceOffline) }},
	{"LeavingAndJoiningAgainWorksOnOneSession", leavesAndReturns},
	{"MessagesArriveByteForByte", byteForByte},
	{"MessagesComeWithWhatIsKnownOfThem", known},
	{"AMessageToAllReachesEveryoneElse", toAll},
	{"ADirectMessageReachesNobodyElse", direct},
	{"APairKeepsItsOrder", order},
	{"PresenceComesBeforeThePeersMessages", presenceFirst},
	{"MessagesAreNotRetained", notRetained},
	{"RoomsAreSeparate", separateRooms},
	{"ASessionIsInThirtyTwoRoomsAtOnce", manyRooms},
	{"ASessionGoesThroughAnyNumberOfRooms", roomsInTurn},
	{"AMessageToNobodyIs404AndToldOnce", nobody},
	{"WhoIsNotInTheRoomIs403", outsiders},
	{"SpeakingAsAnotherIs403", impostors},
	{"ReadingBeyondTheGrantIs403", tooCurious},
	{"AViewerSeesAndCallsOnePeer", viewer},
	{"MalformedMessagesAre400", malformed},
	{"WhatIsTooLongIs413", tooLong},
	{"AFullInboxIsToldToTheSender", fullInbox},
	{"AMessageToAConnectionThatIsEndingWaitsForTheNext", endingInbox},
	{"TheServerAnswersICE", ice},
	{"TakingOverTellsTheOldConnection", takeover},
	{"ALateCloseOfAReplacedConnectionChangesNothing", lateClose},
	{"WhoClosedOfItsOwnWillIsGoneAtOnce", left},
	{"OpenSessionsEndWithBye", byes},
	{"CloseIsIdempotentAndFinal", closed},
	{"EachSessionHasANameInTheLog", names},
	{"SessionsComeAndGoAtOnce", crowd},
	{"WhoHasNoTimeToResumeIsToldOfTheEndAtOnce", notResumable},
	{"WhatIsClosedIsNotSuspended", closedFirst},
}

var timed = []struct {
	name string
	test func(*testing.T, bridge.Connect, time.Duration)
}{
	{"ALostConnectionHasAGrace", lost},
	{"WhoComesBackInTimeMissesNothing", comesBack},
	{"ADeviceStaysListed", device},
	{"WhoResumesMissesNothingAndNobodySeesItGo", resumes},
	{"WhoDoesNotResumeInTimeIsGone", notResumed},
	{"WhoMissedTooMuchDoesNotResumeAndIsGoneWhenItsDoorCloses", missedTooMuch},
	{"ANewSessionTakesOverASuspendedOne", takesOverSuspended},
	{"WhatBecameOfAMessageWaitsForTheNextConnection", heardLater},
	{"WhatAClientDidNotGetGoesToItsNextConnection", givenBack},
	{"WhatNobodyCameToGetIsToldToItsSender", givenBackAndTold},
}

func joining(t *testing.T, bus bridge.Connect) {
	bob := connect(t, bus, PeerOf("bob"))
	bob.join(`{"online":true,"name":"Bob"}`)
	alice := connect(t, bus, PeerOf("alice"))
	alice.join(topics.PresenceOnline)

	var hello topics.Hello
	var snapshot []string
	for _, d := range alice.in.all() {
		switch {
		case d.Kind == topics.Presence && d.Retained:
			snapshot = append(snapshot, d.Src)
			if !strings.HasPrefix(string(d.Payload), `{"online":true,"name":"Bob"`) {
				t.Errorf("the snapshot has %s", d.Payload)
			}
		case d.Src == topics.Server && d.Type == topics.TypeHello:
			if hello.Type != "" {
				t.Error("hello came twice")
			}
			if err := json.Unmarshal(d.Payload, &hello); err != nil {
				t.Errorf("hello: %v", err)
			}
			if d.Dst != "alice" || d.Room != room || d.Kind != topics.Direct || d.Retained {
				t.Errorf("hello came as %+v", d.Address)
			}
		default:
			t.Errorf("there came %s", show([]topics.Delivery{d}))
		}
	}
	if fmt.Sprint(snapshot) != "[bob]" {
		t.Errorf("the snapshot is of %v, want of bob", snapshot)
	}
	if hello.Room != room || hello.Peer != "alice" || hello.ICEServers == nil || hello.Max <= 0 {
		t.Errorf("hello is %+v", hello)
	}
}

func joiningByInbox(t *testing.T, bus bridge.Connect) {
	bob := join(t, bus, PeerOf("bob"))
	alice := connect(t, bus, PeerOf("alice"))
	alice.subscribe()
	if p := bob.presence("alice"); !strings.HasPrefix(string(p.Payload), `{"online":true`) {
		t.Errorf("the presence is %s", p.Payload)
	}
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
}

func subscribingAgain(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	alice.subscribe()
	alice.wait("bob in the snapshot", func(d topics.Delivery) bool { return d.Retained && d.Src == "bob" })
	alice.wait("hello", func(d topics.Delivery) bool { return d.Type == topics.TypeHello })
	bob.publish(bob.toAll(), `{"type":"msg","data":"once"}`)
	alice.message("bob")
	alice.fence(bob)
	alice.nothing("more", anything)
}

func seen(t *testing.T, bus bridge.Connect) {
	bob := join(t, bus, PeerOf("bob"))
	alice := connect(t, bus, PeerOf("alice"))
	alice.join(`{"online":true,"name":"A"}`)
	p := bob.presence("alice")
	var got struct {
		Online    bool
		Name, Via string
		Since     int64
	}
	if err := json.Unmarshal(p.Payload, &got); err != nil {
		t.Fatal(err)
	}
	if age := time.Since(time.Unix(got.Since, 0)); !got.Online || got.Name != "A" || got.Via != "ws" || age < -time.Minute || age > time.Minute {
		t.Errorf("the presence is %s", p.Payload)
	}
	if p.Retained || p.Room != room || p.Message != (topics.Message{}) {
		t.Errorf("it came as %+v", p)
	}
}

func updated(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.publish(alice.own(), `{"online":true,"muted":true}`)
	if p := bob.presence("alice"); !strings.HasPrefix(string(p.Payload), `{"online":true,"muted":true`) {
		t.Errorf("bob sees %s", p.Payload)
	}
	carol := connect(t, bus, PeerOf("carol"))
	carol.join(topics.PresenceOnline)
	d := carol.presence("alice")
	if !d.Retained || !strings.HasPrefix(string(d.Payload), `{"online":true,"muted":true`) {
		t.Errorf("carol sees %s", d.Payload)
	}
}

func noOwnPresence(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), connect(t, bus, PeerOf("alice"))
	alice.join(topics.PresenceOnline)
	alice.publish(alice.own(), `{"online":true,"muted":true}`)
	alice.fence(bob)
	alice.nothing("its own presence", func(d topics.Delivery) bool { return isPresence(d) && d.Src == "alice" })
}

func leaves(t *testing.T, bus bridge.Connect, how string) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.publish(alice.own(), how)
	if p := bob.presence("alice"); len(p.Payload) > 0 {
		t.Errorf("bob sees %s, want an empty presence", p.Payload)
	}
	carol := connect(t, bus, PeerOf("carol"))
	carol.join(topics.PresenceOnline)
	carol.nothing("alice in the snapshot", func(d topics.Delivery) bool { return d.Src == "alice" })
	alice.refused(topics.Forbidden, alice.Publish(alice.to("bob"), []byte(`{"type":"msg"}`)))
	if err := bob.Publish(bob.to("alice"), []byte(`{"type":"msg"}`)); err == nil {
		t.Error("a message to who left was accepted")
	}
}

func leavesAndReturns(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	alice.publish(alice.own(), "")
	alice.in.all()
	alice.join(topics.PresenceOnline)
	alice.wait("bob in the snapshot", func(d topics.Delivery) bool { return d.Retained && d.Src == "bob" })
	alice.wait("hello", func(d topics.Delivery) bool { return d.Type == topics.TypeHello })
	bob.publish(bob.to("alice"), `{"type":"msg"}`)
	alice.message("bob")
}

func byteForByte(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	for _, payload := range []string{
		`{"type":"offer","session":"k3","sdp":"v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\n"}`,
		" \t{ \"type\" : \"msg\" ,\n\"data\":[ 1.0e+3, -0, \"\\u00e9\\/é\", {} ]\r\n} ",
		`{"unknown":{"b":1,"a":2},"session":"k3","type":"candidate","candidate":""}`,
		`{"type":"x-mine","id":7,"peer":"nobody","token":"t","presence":null}`,
		`{"type":"msg","data":"` + strings.Repeat("long ", 2000) + `"}`,
	} {
		for _, a := range []topics.Address{alice.to("bob"), alice.toAll()} {
			alice.publish(a, payload)
			if d := bob.message("alice"); string(d.Payload) != payload {
				t.Errorf("%q arrived as %q", payload, d.Payload)
			}
		}
	}
}

func known(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	for _, c := range []struct {
		a       topics.Address
		payload string
		want    topics.Message
	}{
		{alice.to("bob"), `{"type":"offer","session":"k3","sdp":""}`, topics.Message{Type: "offer", Session: "k3"}},
		{alice.to("bob"), `{"type":"msg","from":"alice","to":"bob"}`, topics.Message{Type: "msg", Routed: true}},
		{alice.toAll(), `{"type":"msg","room":"garage"}`, topics.Message{Type: "msg", Routed: true}},
	} {
		alice.publish(c.a, c.payload)
		if d := bob.message("alice"); d.Address != c.a || d.Message != c.want || d.Retained {
			t.Errorf("%s to %+v came as %+v", c.payload, c.a, d)
		}
	}
}

func toAll(t *testing.T, bus bridge.Connect) {
	alice, bob, carol := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("carol"))
	alice.publish(alice.toAll(), `{"type":"msg","data":"hi"}`)
	bob.message("alice")
	carol.message("alice")
	alice.fence(bob)
	alice.nothing("an echo", func(d topics.Delivery) bool { return isMessage(d) && d.Src == "alice" })
}

func direct(t *testing.T, bus bridge.Connect) {
	alice, bob, carol := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("carol"))
	alice.publish(alice.to("bob"), `{"type":"msg","data":"psst"}`)
	bob.message("alice")
	carol.fence(alice)
	alice.fence(carol)
	carol.nothing("a message to bob", isMessage)
	alice.nothing("an echo", isMessage)
}

func order(t *testing.T, bus bridge.Connect) {
	const n = 300
	bob := join(t, bus, PeerOf("bob"))
	var senders sync.WaitGroup
	for _, name := range []string{"alice", "carol"} {
		c := join(t, bus, PeerOf(name))
		senders.Go(func() {
			for i := range n {
				if err := c.Publish(c.to("bob"), fmt.Appendf(nil, `{"type":"msg","data":%d}`, i)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	for _, name := range []string{"alice", "carol"} {
		for i := range n {
			if d := bob.message(name); string(d.Payload) != fmt.Sprintf(`{"type":"msg","data":%d}`, i) {
				t.Fatalf("message %d of %s is %s", i, name, d.Payload)
			}
		}
	}
	senders.Wait()
}

func presenceFirst(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), connect(t, bus, PeerOf("alice"))
	alice.join(topics.PresenceOnline)
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	of := func(d topics.Delivery) bool { return d.Src == "alice" }
	if d := bob.wait("alice", of); d.Kind != topics.Presence {
		t.Errorf("first came %s", d.Payload)
	}
}

func notRetained(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	alice.publish(alice.toAll(), `{"type":"msg"}`)
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
	bob.message("alice")
	bob.subscribe()
	bob.nothing("an old message", func(d topics.Delivery) bool { return isMessage(d) && d.Src != topics.Server })
}

func separateRooms(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	if err := bob.Subscribe(bob.id.Filters(topics.DefaultRoot, "attic")...); err != nil {
		t.Fatal(err)
	}
	alice.in.all()
	attic := bob.toAll()
	attic.Room = "attic"
	bob.publish(attic, `{"type":"msg","data":"upstairs"}`)
	attic.Kind, attic.Dst = topics.Direct, "alice"
	bob.refused(topics.NotFound, bob.Publish(attic, []byte(`{"type":"msg"}`)))
	alice.fence(bob)
	alice.nothing("something of the other room", anything)
}

// enter joins a room other than that of the tests.
func (c *client) enter(room string) {
	c.t.Helper()
	c.publish(topics.Address{Room: room, Kind: topics.Presence, Src: c.name}, topics.PresenceOnline)
	if err := c.Subscribe(c.id.Filters(topics.DefaultRoot, room)...); err != nil {
		c.t.Fatalf("%s joins %s: %v", c.name, room, err)
	}
}

func manyRooms(t *testing.T, bus bridge.Connect) {
	alice := connect(t, bus, PeerOf("alice"))
	for i := range 32 {
		alice.enter(fmt.Sprintf("room%d", i))
	}
	bob := connect(t, bus, PeerOf("bob"))
	bob.enter("room31")
	bob.publish(topics.Address{Room: "room31", Kind: topics.All, Src: "bob"}, `{"type":"msg"}`)
	alice.message("bob")
}

func roomsInTurn(t *testing.T, bus bridge.Connect) {
	alice := connect(t, bus, PeerOf("alice"))
	for i := range 100 {
		room := fmt.Sprintf("room%d", i)
		alice.enter(room)
		alice.publish(topics.Address{Room: room, Kind: topics.Presence, Src: "alice"}, "")
	}
}

func nobody(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	e := alice.refused(topics.NotFound, alice.Publish(alice.to("nobody"), []byte(`{"type":"offer","session":"k3","sdp":""}`)))
	if e.To != "nobody" || e.Session != "k3" || e.About != "offer" || e.Message == "" {
		t.Errorf("the error says %+v", e)
	}
	alice.fence(bob)
	alice.nothing("the error again", func(d topics.Delivery) bool { return d.Type == topics.TypeError })
}

func outsiders(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), connect(t, bus, PeerOf("alice"))
	msg := []byte(`{"type":"msg"}`)
	alice.refused(topics.Forbidden, alice.Publish(alice.to("bob"), msg))
	alice.refused(topics.Forbidden, alice.Publish(alice.toAll(), msg))

	mallory := connect(t, bus, topics.Identity{Name: "mallory", Grants: []topics.Grant{{Room: "attic", Role: topics.Peer}}})
	mallory.refused(topics.Forbidden, mallory.Publish(mallory.own(), []byte(topics.PresenceOnline)))
	mallory.refused(topics.Forbidden, mallory.Publish(mallory.to("bob"), msg))
	mallory.refused(topics.Forbidden, mallory.Subscribe(topics.DefaultRoot.Inbox(room, "mallory")))
	bob.nothing("a word of them", anything)
}

func impostors(t *testing.T, bus bridge.Connect) {
	bob, mallory := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("mallory"))
	alice := join(t, bus, PeerOf("alice"))
	bob.in.all()
	for _, a := range []topics.Address{alice.own(), alice.to("bob"), alice.toAll(), {Room: room, Kind: topics.Wake, Dst: "bob"},
		{Room: room, Kind: topics.Direct, Dst: "bob", Src: topics.Server}} {
		mallory.refused(topics.Forbidden, mallory.Publish(a, []byte(`{"type":"msg","online":true}`)))
	}
	mallory.refused(topics.BadRequest, mallory.Publish(mallory.to("bob"), []byte(`{"type":"msg","from":"alice"}`)))
	mallory.refused(topics.BadRequest, mallory.Publish(mallory.to("bob"), []byte(`{"type":"msg","to":"alice"}`)))
	bob.fence(mallory)
	bob.nothing("a forgery", anything)
}

func tooCurious(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	mallory := join(t, bus, topics.Identity{Name: "mallory", Grants: []topics.Grant{{Room: room, Role: topics.Peer}}})
	for _, f := range []string{"rtc/v1/garage/#", "rtc/v1/garage/to/bob/+", "rtc/v1/garage/to/+/+", "rtc/v1/+/peers/+", "$share/g/rtc/v1/garage/to/bob/+"} {
		mallory.refused(topics.Forbidden, mallory.Subscribe(f))
	}
	mallory.in.all()
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
	mallory.fence(alice)
	mallory.nothing("a message to bob", isMessage)
}

func viewer(t *testing.T, bus bridge.Connect) {
	cam, other := join(t, bus, PeerOf("cam1")), join(t, bus, PeerOf("cam2"))
	guest := connect(t, bus, topics.Identity{Name: "guest", Grants: []topics.Grant{{Room: room, Role: topics.Viewer, Of: "cam1"}}})
	guest.join(topics.PresenceOnline)
	guest.presence("cam1")
	guest.nothing("cam2", func(d topics.Delivery) bool { return d.Src == "cam2" })
	guest.publish(guest.to("cam1"), `{"type":"start","session":"g1"}`)
	cam.message("guest")
	cam.publish(cam.to("guest"), `{"type":"offer","session":"g1","sdp":""}`)
	guest.message("cam1")
	guest.refused(topics.Forbidden, guest.Publish(guest.to("cam2"), []byte(`{"type":"msg"}`)))
	guest.refused(topics.Forbidden, guest.Publish(guest.toAll(), []byte(`{"type":"msg"}`)))
	other.nothing("a word of the guest", isMessage)
}

func malformed(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	for _, payload := range []string{
		``, `[]`, `nonsense`, `{"type":"msg"`, `{"type":"msg"} {}`, `{}`, `{"type":5}`, `{"type":"unheard-of"}`,
		`{"type":"offer","sdp":""}`, `{"type":"offer","session":"no spaces","sdp":""}`, `{"type":"msg","type":"msg"}`,
		`{"type":"hello"}`, `{"type":"error","code":404}`, "{\"type\":\"msg\",\"data\":\"\xff\"}",
		`{"type":"msg","data":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`,
	} {
		alice.refused(topics.BadRequest, alice.Publish(alice.to("bob"), []byte(payload)))
		said, _ := topics.Read([]byte(payload), nil)
		alice.refused(topics.BadRequest, alice.Say(alice.to("bob"), said))
	}
	alice.refused(topics.BadRequest, alice.Say(alice.to("bob"), topics.Reading{}))
	alice.refused(topics.BadRequest, alice.Publish(alice.own(), []byte(`{"name":"no online"}`)))
	bob.in.all()
	bob.fence(alice)
	bob.nothing("something malformed", anything)
}

func tooLong(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), connect(t, bus, PeerOf("alice"))
	alice.join(topics.PresenceOnline)
	var hello topics.Hello
	d := alice.wait("hello", func(d topics.Delivery) bool { return d.Type == topics.TypeHello })
	if err := json.Unmarshal(d.Payload, &hello); err != nil {
		t.Fatal(err)
	}
	of := func(size int) []byte {
		const rest = len(`{"type":"msg","data":""}`)
		return fmt.Appendf(nil, `{"type":"msg","data":"%s"}`, strings.Repeat("x", size-rest))
	}
	alice.publish(alice.to("bob"), string(of(hello.Max)))
	alice.refused(topics.TooLarge, alice.Publish(alice.to("bob"), of(hello.Max+1)))

	bob.publish(bob.own(), `{"online":true,"max":4096}`)
	alice.publish(alice.to("bob"), string(of(4096)))
	alice.refused(topics.TooLarge, alice.Publish(alice.to("bob"), of(4097)))

	long := []byte(`{"online":true,"x":"` + strings.Repeat("x", topics.MaxPresence) + `"}`)
	alice.refused(topics.TooLarge, alice.Publish(alice.own(), long))
}

func fullInbox(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.in.mu.Lock()
	bob.in.refuse = errors.New("full")
	bob.in.mu.Unlock()
	alice.refused(topics.Busy, alice.Publish(alice.to("bob"), []byte(`{"type":"msg"}`)))
	bob.in.mu.Lock()
	bob.in.refuse = nil
	bob.in.mu.Unlock()
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
}

func endingInbox(t *testing.T, bus bridge.Connect) {
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	bob.in.mu.Lock()
	bob.in.refuse = topics.Errorf(topics.Offline, "ending")
	bob.in.mu.Unlock()
	alice.publish(alice.to("bob"), `{"type":"msg","data":1}`)
	bob.Close(false)
	next := connect(t, bus, PeerOf("bob"))
	next.join(topics.PresenceOnline)
	next.message("alice")
}

func ice(t *testing.T, bus bridge.Connect) {
	alice := join(t, bus, PeerOf("alice"))
	alice.publish(alice.to(topics.Server), `{"type":"ice"}`)
	d := alice.message(topics.Server)
	var got topics.Hello
	if err := json.Unmarshal(d.Payload, &got); err != nil || got.Type != topics.TypeICE || got.ICEServers == nil {
		t.Errorf("the answer is %s (%v)", d.Payload, err)
	}
	alice.refused(topics.BadRequest, alice.Publish(alice.to(topics.Server), []byte(`{"type":"msg"}`)))
}

func takeover(t *testing.T, bus bridge.Connect) {
	bob, old := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	fresh := join(t, bus, PeerOf("alice"))

	told := old.message(topics.Server)
	var e struct {
		Type, Reason string
		Code         topics.Code
	}
	if err := json.Unmarshal(told.Payload, &e); err != nil || told.Type != topics.TypeError || e.Code != topics.Replaced || e.Reason != "replaced" || told.Room != room {
		t.Errorf("the old one was told %s (%v)", told.Payload, err)
	}
	old.refused(topics.Forbidden, old.Publish(old.to("bob"), []byte(`{"type":"msg"}`)))
	old.refused(topics.Forbidden, old.Publish(old.toAll(), []byte(`{"type":"msg"}`)))

	bob.publish(bob.to("alice"), `{"type":"msg","data":"to the new one"}`)
	bob.publish(bob.toAll(), `{"type":"msg","data":"to all"}`)
	fresh.message("bob")
	fresh.message("bob")
	old.nothing("what is for the new one", anything)
	fresh.publish(fresh.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
	bob.nothing("alice gone", func(d topics.Delivery) bool { return isPresence(d) && len(d.Payload) == 0 })
}

func lateClose(t *testing.T, bus bridge.Connect) {
	for _, left := range []bool{true, false} {
		bob, old := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
		fresh := join(t, bus, PeerOf("alice"))
		bob.fence(fresh)
		bob.in.all()
		old.Close(left)
		bob.publish(bob.to("alice"), `{"type":"msg"}`)
		fresh.message("bob")
		fresh.publish(fresh.to("bob"), `{"type":"msg"}`)
		bob.message("alice")
		bob.nothing("a presence of alice", isPresence)
		fresh.Close(true)
		bob.Close(true)
	}
}

func left(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.Close(true)
	if p := bob.presence("alice"); len(p.Payload) > 0 {
		t.Errorf("bob sees %s", p.Payload)
	}
	if err := bob.Publish(bob.to("alice"), []byte(`{"type":"msg"}`)); err == nil {
		t.Error("a message to who left was accepted")
	}
}

func byes(t *testing.T, bus bridge.Connect) {
	alice, bob, carol := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("carol"))
	alice.publish(alice.to("bob"), `{"type":"start","session":"open"}`)
	bob.publish(bob.to("alice"), `{"type":"offer","session":"open","sdp":""}`)
	carol.publish(carol.to("bob"), `{"type":"offer","session":"theirs","sdp":""}`)
	alice.publish(alice.to("bob"), `{"type":"offer","session":"ended","sdp":""}`)
	bob.publish(bob.to("alice"), `{"type":"bye","session":"ended","reason":"hangup"}`)
	alice.fence(bob)
	alice.in.all()
	bob.Close(true)

	if d := alice.message("bob"); !bytes.Equal(d.Payload, topics.Bye("open")) || d.Address != bob.to("alice") || d.Session != "open" {
		t.Errorf("alice was told %s of %+v", d.Payload, d.Address)
	}
	if d := carol.message("bob"); !bytes.Equal(d.Payload, topics.Bye("theirs")) {
		t.Errorf("carol was told %s", d.Payload)
	}
	alice.fence(carol)
	alice.nothing("another bye", isMessage)
}

func closed(t *testing.T, bus bridge.Connect) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	carol := join(t, bus, PeerOf("carol"))
	alice.Close(true)
	alice.Close(true)
	alice.Close(false)
	alice.in.all()
	if alice.Publish(alice.own(), []byte(topics.PresenceOnline)) == nil || alice.Subscribe(alice.id.Filters(topics.DefaultRoot, room)...) == nil {
		t.Error("a closed session is of use")
	}
	bob.publish(bob.toAll(), `{"type":"msg"}`)
	carol.message("bob")
	alice.nothing("something after it was closed", anything)
}

func names(t *testing.T, bus bridge.Connect) {
	one, other := connect(t, bus, PeerOf("alice")).Conn(), connect(t, bus, PeerOf("alice")).Conn()
	if one == "" || one == other {
		t.Errorf("two sessions are %q and %q", one, other)
	}
}

// crowd is for the race detector, and finds deadlocks.
func crowd(t *testing.T, bus bridge.Connect) {
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for round := range 10 {
				id := PeerOf(fmt.Sprintf("peer%d", i/2)) // two of each name, so that they take over
				b, err := bus(id, "ws", bridge.InboxFunc(func(topics.Delivery) error { return nil }))
				if err != nil {
					t.Error(err)
					return
				}
				own := topics.Address{Room: room, Kind: topics.Presence, Src: id.Name}
				_ = b.Publish(own, []byte(topics.PresenceOnline))
				_ = b.Subscribe(id.Filters(topics.DefaultRoot, room)...)
				_ = b.Publish(topics.Address{Room: room, Kind: topics.All, Src: id.Name}, []byte(`{"type":"msg"}`))
				_ = b.Publish(topics.Address{Room: room, Kind: topics.Direct, Dst: "peer0", Src: id.Name}, []byte(`{"type":"start","session":"s"}`))
				b.Close(round%2 == 0)
			}
		})
	}
	all.Wait()
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
}

func lost(t *testing.T, bus bridge.Connect, grace time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.presence("alice")
	alice.publish(alice.to("bob"), `{"type":"start","session":"k3"}`)
	bob.message("alice")
	since := time.Now()
	alice.Close(false)
	bob.publish(bob.to("alice"), `{"type":"msg","data":"held"}`)
	if p := bob.presence("alice"); len(p.Payload) > 0 {
		t.Errorf("bob sees %s", p.Payload)
	}
	if took := time.Since(since); took < grace*9/10 {
		t.Errorf("alice was given up after %v, the grace is %v", took, grace)
	}
	bob.wait("the bye of alice", func(d topics.Delivery) bool { return bytes.Equal(d.Payload, topics.Bye("k3")) })
	bob.wait("the fate of what was held", func(d topics.Delivery) bool { return d.Src == topics.Server && d.Type == topics.TypeError })
	if err := bob.Publish(bob.to("alice"), []byte(`{"type":"msg"}`)); err == nil {
		t.Error("a message to who is gone was accepted")
	}
}

func comesBack(t *testing.T, bus bridge.Connect, _ time.Duration) {
	bob, alice := join(t, bus, PeerOf("bob")), join(t, bus, PeerOf("alice"))
	bob.fence(alice)
	alice.Close(false)
	for i := range 3 {
		bob.publish(bob.to("alice"), fmt.Sprintf(`{"type":"msg","data":%d}`, i))
	}
	back := connect(t, bus, PeerOf("alice"))
	back.join(topics.PresenceOnline)
	for i := range 3 {
		if d := back.message("bob"); string(d.Payload) != fmt.Sprintf(`{"type":"msg","data":%d}`, i) {
			t.Errorf("message %d is %s", i, d.Payload)
		}
	}
	bob.fence(back)
	bob.nothing("alice gone", func(d topics.Delivery) bool { return isPresence(d) && len(d.Payload) == 0 })
}

func device(t *testing.T, bus bridge.Connect, _ time.Duration) {
	id := PeerOf("cam1")
	id.Device = true
	bob, cam := join(t, bus, PeerOf("bob")), join(t, bus, id)
	bob.presence("cam1")
	cam.Close(false)
	if p := bob.presence("cam1"); !strings.HasPrefix(string(p.Payload), `{"online":false`) {
		t.Errorf("bob sees %s", p.Payload)
	}
	carol := connect(t, bus, PeerOf("carol"))
	carol.join(topics.PresenceOnline)
	carol.wait("the camera in the snapshot", func(d topics.Delivery) bool {
		return d.Retained && d.Src == "cam1" && strings.HasPrefix(string(d.Payload), `{"online":false`)
	})
	// Held until it is back, or told: what was accepted arrives.
	err := bob.Publish(bob.to("cam1"), []byte(`{"type":"msg","data":"awake?"}`))
	if err != nil {
		bob.refused(topics.Offline, err)
	}
	back := connect(t, bus, id)
	back.join(topics.PresenceOnline)
	if err != nil {
		bob.publish(bob.to("cam1"), `{"type":"msg","data":"awake?"}`)
	}
	back.message("bob")
	bob.fence(back)
	back.nothing("the message again", func(d topics.Delivery) bool { return d.Src == "bob" && isMessage(d) })
}
