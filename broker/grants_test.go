package broker

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
	paho5 "github.com/eclipse/paho.golang/paho"
)

// accounts is an Authenticate for tests: who may do what.
func accounts(_ context.Context, c topics.Credentials) (topics.Identity, error) {
	grants := map[string][]topics.Grant{
		"cam1":  {{Room: "garage", Role: topics.Peer}},
		"alice": {{Room: "garage", Role: topics.Peer}},
		"vera":  {{Room: "garage", Role: topics.Viewer, Of: "cam1"}},
		"otto":  {{Room: "garage", Role: topics.Observer}},
		"ada":   {{Room: "*", Role: topics.Admin}},
		"desk":  {{Room: "*", Role: topics.Observer}},
	}
	g, ok := grants[c.Username]
	switch {
	case c.Username == "":
		return topics.Identity{}, topics.Errorf(topics.Unauthorized, "no user name")
	case !ok:
		return topics.Identity{}, topics.Errorf(topics.Forbidden, "%q has no account", c.Username)
	}
	return topics.Identity{Name: c.Username, Grants: g, Device: c.Username == "cam1"}, nil
}

func as(user string) func(*paho5.Connect) {
	return func(c *paho5.Connect) { c.Username, c.UsernameFlag = user, true }
}

func TestConnectIsRefusedWithItsReason(t *testing.T) {
	s := serve(t, Config{Authenticate: accounts})
	for user, want := range map[string][2]byte{"": {0x86, 4}, "mallory": {0x87, 5}} {
		c := connect5("x", user)
		conn := s.dial(t)
		send(t, conn, c)
		if got := receive(t, conn); got[0] != 0x20 || got[3] != want[0] {
			t.Errorf("version 5, user %q: CONNACK % x, want reason %#x", user, got, want[0])
		}
		conn = s.dial(t)
		send(t, conn, connect3("x", user))
		if got := receive(t, conn); got[0] != 0x20 || got[3] != want[1] {
			t.Errorf("version 3.1.1, user %q: CONNACK % x, want code %d", user, got, want[1])
		}
	}
}

func TestSubscriptionWiderThanTheGrantIsRefusedAndCarriesNothing(t *testing.T) {
	threat.Row(t, 1, threat.TCP)
	s := serve(t, Config{Authenticate: accounts})
	cam := s.client5(t, "c", as("cam1"))
	cam.name = "cam1"
	cam.subscribe(inbox("garage", "cam1")).expect("rtc/v1/garage/to/cam1/_ hello")
	alice := s.client5(t, "a", as("alice"))
	alice.name = "alice"
	alice.subscribe(inbox("garage", "alice")).expect("rtc/v1/garage/to/alice/_ hello")
	for _, who := range []string{"alice", "vera", "otto"} {
		for _, f := range []string{
			"#", "+/#", "rtc/#", "rtc/v1/#", "rtc/+/garage/#", "rtc/v1/+/to/+/+", "rtc/v1/attic/#", "rtc/v1/attic/peers/+",
			"$SYS/#", "$share/g/#", "$SHARE/g/rtc/v1/#", "+/v1/garage/to/cam1/+", "home/#",
		} {
			snoop := s.client5(t, "s", as(who))
			if code := snoop.trySubscribe(f, 1); code != 0x87 {
				t.Errorf("%s: SUBACK %#x for %s, want 0x87", who, code, f)
			}
			snoop.leave()
		}
	}
	for _, f := range []string{"rtc/v1/garage/#", "rtc/v1/garage/to/+/+", "rtc/v1/garage/to/cam1/+", "$share/g/rtc/v1/garage/to/cam1/+", "rtc/v1/garage/+/+", "rtc/v1/garage/wake/+"} {
		if code := alice.trySubscribe(f, 1); code != 0x87 {
			t.Errorf("alice: SUBACK %#x for %s, want 0x87", code, f)
		}
	}
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg"}`, 1)
	cam.expect("rtc/v1/garage/to/cam1/alice msg")
	alice.quiet("garage")
	three := s.client3(t, "t", user3("vera"))
	if code := three.trySubscribe("rtc/v1/garage/#", 1); code != 0x80 {
		t.Errorf("version 3.1.1: SUBACK %#x, want 0x80", code)
	}
}

// TestSnoopingFiltersCarryNothingOverTheWire tries every row of the table of
// snooping filters as each kind of account, in both versions of MQTT, while
// there is something to see, live and retained. What is refused carries nothing.
func TestSnoopingFiltersCarryNothingOverTheWire(t *testing.T) {
	threat.Row(t, 1, threat.TCP)
	table, err := os.ReadFile("../topics/testdata/snooping_filters.txt")
	if err != nil {
		t.Fatal(err)
	}
	grants := map[string][]topics.Grant{
		"p": {{Room: "garage", Role: topics.Peer}},
		"v": {{Room: "garage", Role: topics.Viewer, Of: "cam1"}},
		"o": {{Room: "garage", Role: topics.Observer}},
		"n": nil,
	}
	s := serve(t, Config{Logger: slog.New(slog.DiscardHandler), Authenticate: func(_ context.Context, c topics.Credentials) (topics.Identity, error) {
		if g, ok := grants[c.Username]; ok {
			return topics.Identity{Name: "eve", Grants: g}, nil
		}
		return topics.Identity{Name: c.Username, Grants: []topics.Grant{{Room: "garage", Role: topics.Peer}}}, nil
	}})
	cam := s.client5(t, "c", as("cam1"))
	cam.name = "cam1"
	cam.subscribe(inbox("garage", "cam1")).expect("rtc/v1/garage/to/cam1/_ hello")
	alice := s.client5(t, "a", as("alice"))
	alice.name = "alice"
	alice.subscribe(inbox("garage", "alice")).expect("rtc/v1/garage/to/alice/_ hello")
	for who := range grants {
		for version := 3; version <= 5; version += 2 {
			var eve *mqttPeer
			if version == 3 {
				eve = s.client3(t, "e", user3(who))
			} else {
				eve = s.client5(t, "e", as(who))
			}
			var held []string
			rows := 0
			for line := range strings.Lines(string(table)) {
				row := strings.Fields(line)
				if len(row) != 2 || row[0] == "#" {
					continue
				}
				rows++
				granted := strings.Contains(row[0], who)
				if code := eve.trySubscribe(row[1], 1); (code <= 2) != granted || version == 3 && !granted && code != 0x80 {
					t.Errorf("%s: SUBACK %#x in version %d for %s", who, code, version, row[1])
				}
				if granted {
					held = append(held, row[1])
				}
			}
			if rows < 60 {
				t.Fatalf("only %d filters", rows)
			}
			eve.unsubscribe(held...)
			alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg","data":"secret"}`, 1)
			cam.until("rtc/v1/garage/to/cam1/alice secret")
			alice.publish("rtc/v1/garage/all/alice", `{"type":"msg","data":"secret"}`, 1)
			eve.trySubscribe("rtc/v1/attic/#", 1) // its answer comes after all that is on its way
			for len(eve.received) > 0 {
				// Of what was granted for a while the presences came, to "n" nothing.
				if g := eve.next(); who == "n" || strings.Contains(g.payload, "secret") {
					t.Errorf("%s got %v", who, g)
				}
			}
			eve.leave()
		}
	}
}

func TestViewerReachesItsCameraOnly(t *testing.T) {
	s := serve(t, Config{Authenticate: accounts})
	cam := s.client5(t, "c", as("cam1"))
	cam.name = "cam1"
	cam.subscribe(inbox("garage", "cam1"), "rtc/v1/garage/peers/+").expect("rtc/v1/garage/to/cam1/_ hello")
	vera := s.client5(t, "v", as("vera"))
	vera.name = "vera"
	vera.subscribe(inbox("garage", "vera"), "rtc/v1/garage/peers/cam1")
	vera.expect("rtc/v1/garage/to/vera/_ hello", "rtc/v1/garage/peers/cam1 online")
	cam.expect("rtc/v1/garage/peers/vera online")
	for topic, want := range map[string]byte{
		"rtc/v1/garage/to/cam1/vera":  0,
		"rtc/v1/garage/to/alice/vera": 0x87,
		"rtc/v1/garage/all/vera":      0x87,
		"rtc/v1/attic/to/cam1/vera":   0x87,
	} {
		if got := vera.publish(topic, `{"type":"msg"}`, 1); got != want {
			t.Errorf("%s: reason %#x, want %#x", topic, got, want)
		}
	}
	cam.expect("rtc/v1/garage/to/cam1/vera msg")
}

func TestObserverSeesEverythingOnceAndSaysNothing(t *testing.T) {
	s := serve(t, Config{Authenticate: accounts})
	otto := s.client5(t, "o", as("otto")).subscribe("rtc/v1/garage/#", "rtc/v1/garage/peers/+")
	desk := s.client5(t, "d", as("desk")).subscribe("rtc/v1/+/to/+/+")
	cam := s.client5(t, "c", as("cam1"))
	cam.name = "cam1"
	cam.subscribe(inbox("garage", "cam1")).expect("rtc/v1/garage/to/cam1/_ hello")
	alice := s.client5(t, "a", as("alice")).subscribe(inbox("garage", "alice"), "rtc/v1/garage/all/+")
	alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k1"}`, 1)
	alice.publish("rtc/v1/garage/all/alice", `{"type":"msg"}`, 1)
	otto.expect("rtc/v1/garage/peers/cam1 online", "rtc/v1/garage/peers/alice online", "rtc/v1/garage/to/cam1/alice k1", "rtc/v1/garage/all/alice msg")
	desk.expect("rtc/v1/garage/to/cam1/alice k1")
	if got := otto.publish("rtc/v1/garage/all/otto", `{"type":"msg"}`, 1); got != 0x87 {
		t.Errorf("an observer may publish: reason %#x", got)
	}
	late := s.client5(t, "d2", as("desk")).subscribe("rtc/v1/+/peers/+")
	late.expect("rtc/v1/garage/peers/alice online", "rtc/v1/garage/peers/cam1 online")
	if desk.trySubscribe("rtc/v1/+/peers/+", 1) > 2 {
		t.Fatal("not granted")
	}
	desk.until("rtc/v1/garage/to/otto/_ 403") // what went wrong is seen, too
	desk.expect("rtc/v1/garage/peers/alice online", "rtc/v1/garage/peers/cam1 online")
	cam.leave()
	desk.until("rtc/v1/garage/peers/cam1 false")
}

func TestSharedSubscriptionGetsEachMessageOnce(t *testing.T) {
	s := serve(t, Config{Authenticate: accounts})
	group := []*mqttPeer{
		s.client5(t, "o1", as("otto")).subscribe("$share/g/rtc/v1/garage/all/+"),
		s.client5(t, "o2", as("desk")).subscribe("$share/g/rtc/v1/garage/all/+"),
	}
	alice := s.client5(t, "a", as("alice")).subscribe(inbox("garage", "alice"))
	const n = 40
	for i := range n {
		alice.publish("rtc/v1/garage/all/alice", fmt.Sprintf(`{"type":"msg","data":%d}`, i), 1)
	}
	times := make(map[string]int)
	for _, p := range group {
		p.subscribe("rtc/v1/garage/peers/alice") // whose presence comes after all that is on its way
		got := 0
		for g := p.next(); g.topic != "rtc/v1/garage/peers/alice"; g = p.next() {
			times[g.payload]++
			got++
		}
		if got == 0 {
			t.Errorf("%s got nothing", p.name)
		}
	}
	for i := range n {
		if m := fmt.Sprintf(`{"type":"msg","data":%d}`, i); times[m] != 1 {
			t.Errorf("%s came %d times", m, times[m])
		}
	}
}

func TestAdminSpeaksAsAnyoneButTheServer(t *testing.T) {
	s := serve(t, Config{Authenticate: accounts})
	cam := s.client5(t, "c", as("cam1"))
	cam.subscribe(inbox("garage", "cam1")).expect("rtc/v1/garage/to/cam1/_ hello")
	ada := s.client5(t, "ada", as("ada")).subscribe(inbox("garage", "ada"))
	if got := ada.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg","data":"as alice"}`, 1); got != 0 {
		t.Fatalf("reason %#x", got)
	}
	cam.expect("rtc/v1/garage/to/cam1/alice as alice")
	if got := ada.publish("rtc/v1/garage/to/cam1/_", `{"type":"msg"}`, 1); got != 0x87 {
		t.Errorf("speaking as the server: reason %#x, want 0x87", got)
	}
}

func TestDeviceStaysListedWhenItIsOffline(t *testing.T) {
	s := serve(t, Config{Authenticate: accounts, Grace: soon, Hold: -1})
	cam := s.client5(t, "c", as("cam1")).subscribe(inbox("garage", "cam1"))
	alice := s.client5(t, "a", as("alice"))
	alice.name = "alice"
	alice.subscribe(inbox("garage", "alice"), "rtc/v1/garage/peers/+")
	alice.expect("rtc/v1/garage/to/alice/_ hello", "rtc/v1/garage/peers/cam1 true")
	cam.cut()
	alice.expect(`rtc/v1/garage/peers/cam1 {"online":false,"since":`)
	if got := alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"offer","session":"k1"}`, 1); got != 0x10 {
		t.Errorf("reason %#x, want 0x10", got)
	}
	alice.expect(`rtc/v1/garage/to/alice/_ "code":480`)
	late := s.client5(t, "o", as("otto")).subscribe("rtc/v1/garage/peers/+")
	late.expect("rtc/v1/garage/peers/alice true", "rtc/v1/garage/peers/cam1 false")
	s.client5(t, "c", as("cam1")).subscribe(inbox("garage", "cam1"))
	alice.expect("rtc/v1/garage/peers/cam1 true")
}
