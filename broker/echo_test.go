package broker

import (
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

// A bridge may carry an inbox both ways, and so say again all that it is told.

func TestAClientThatEchoesWhatItIsToldIsNotToldForEver(t *testing.T) {
	s := serve(t, Config{})
	relay := s.client3(t, "relay").subscribe(inbox("garage", "relay"))
	from := "rtc/v1/garage/to/relay/_"
	echo := func(want string) {
		t.Helper()
		g := relay.next()
		if g.topic != from || !strings.Contains(g.payload, want) {
			t.Fatalf("the relay got %v, want %s", g, want)
		}
		relay.publishAs(g.topic, g.payload, 1, g.retained)
	}
	echo(`"type":"hello"`)
	echo(`"code":403`) // it may not speak as the server
	relay.quiet("garage")

	relay.publish("rtc/v1/garage/to/nobody/relay", `{"type":"offer","session":"k3"}`, 1)
	echo(`"code":404`)
	relay.quiet("garage")
}

func TestAnErrorFromAClientIsRefusedByAReasonCodeOnly(t *testing.T) {
	s := serve(t, Config{})
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	bob := s.client5(t, "bob").subscribe(inbox("garage", "bob"))
	alice.next()
	bob.next()
	says := string(topics.Errorf(topics.Offline, "x").Payload())
	for topic, want := range map[string]byte{
		"rtc/v1/garage/to/bob/alice": 0x99,
		"rtc/v1/garage/to/alice/_":   0x87,
		"rtc/v1/garage/all/alice":    0x99,
		"rtc/v1/garage/to/_/alice":   0x99,
	} {
		if code := alice.publish(topic, says, 1); code != want {
			t.Errorf("%s: reason %#x, want %#x", topic, code, want)
		}
	}
	if code := alice.publishAs("rtc/v1/garage/to/bob/alice", says, 1, true); code != 0x99 {
		t.Errorf("retained: reason %#x, want 0x99", code)
	}
	alice.quiet("garage")
	bob.quiet("garage")
}
