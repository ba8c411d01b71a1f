package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

func TestTopicAliasesAreSentToAClientThatTakesThem(t *testing.T) { // fault 14
	for _, most := range []byte{0, 1, 2} {
		s := serve(t, Config{})
		conn := rawCamera(t, s, 0x22, 0, most) // topic alias maximum; the hello has the first
		alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
		for i := range 3 {
			alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg"}`, 1)
			topic, alias := "rtc/v1/garage/to/cam1/alice", uint16(0)
			if most == 2 {
				alias = 2
				if i > 0 {
					topic = ""
				}
			}
			pk := parsed(t, 5, receive(t, conn))
			if pk.TopicName != topic || pk.Properties.TopicAlias != alias || pk.Properties.TopicAliasFlag != (alias > 0) {
				t.Errorf("at most %d, message %d: topic %q, alias %d, want %q and %d", most, i, pk.TopicName, pk.Properties.TopicAlias, topic, alias)
			}
			if string(pk.Payload) != `{"type":"msg"}` {
				t.Errorf("at most %d, message %d: %q", most, i, pk.Payload)
			}
			send(t, conn, []byte{0x40, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
		}
	}
}

func TestTopicAliasEndsWithItsConnection(t *testing.T) {
	s := serve(t, Config{})
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
	for range 2 {
		conn := rawCamera(t, s, 0x22, 0, 9)
		alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg"}`, 1)
		if pk := parsed(t, 5, receive(t, conn)); pk.TopicName == "" {
			t.Errorf("alias %d is of a connection before", pk.Properties.TopicAlias)
		}
	}
}

func TestTopicAliasIsLeftOutWhereItWouldMakeThePacketTooLong(t *testing.T) {
	for name, largest := range map[string]byte{"the client": 3, "its queue": 100} { // maximum packet size, in steps of 256
		s := serve(t, Config{Queue: 2000})
		alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"))
		conn := rawCamera(t, s, 0x22, 0, 9, 0x27, 0, 0, largest, 0)
		most := min(int(largest)*256, 2000)
		size := func(n int) int {
			return publishSize(5, &outgoing{m: &message{topic: "rtc/v1/garage/to/cam1/alice", qos: 1, Delivery: topics.Delivery{Payload: make([]byte, n)}}, how: reception{qos: 1}})
		}
		fits := 500
		for size(fits+1) <= most {
			fits++
		}
		alice.publish("rtc/v1/garage/to/cam1/alice", `{"type":"msg","data":"`+strings.Repeat("x", fits-24)+`"}`, 1)
		pk := parsed(t, 5, receive(t, conn))
		if len(pk.Payload) != fits || pk.Properties.TopicAliasFlag || pk.TopicName == "" {
			t.Errorf("%s takes %d bytes: a payload of %d of %d came with topic %q, alias %d", name, most, len(pk.Payload), fits, pk.TopicName, pk.Properties.TopicAlias)
		}
	}
}

func TestTopicAliasAddsNoMoreThanIsCountedOn(t *testing.T) {
	var a aliases
	a.most = 1
	for _, n := range []int{1, 120, 16_350} { // where the length of the whole takes another byte
		for n := range n + 40 {
			if n > 200 && n < 16_300 {
				continue
			}
			out := outgoing{m: &message{topic: "home", Delivery: topics.Delivery{Payload: make([]byte, n)}}}
			bare := publishSize(5, &out)
			out.alias, out.known = a.find("home")
			if with := publishSize(5, &out); out.alias != 1 || out.known || with-bare > aliasSpace {
				t.Fatalf("%d bytes: alias %d (%v) adds %d bytes, at most %d are counted on", n, out.alias, out.known, with-bare, aliasSpace)
			}
		}
	}
}

func TestOnlyTheFirstTopicsHaveAliases(t *testing.T) {
	a := aliases{most: mostAliases}
	for i := range 3 * mostAliases {
		topic := fmt.Sprint("home/", i)
		if alias, known := a.find(topic); known || (alias > 0) != (i < mostAliases) {
			t.Fatalf("topic %d: alias %d (%v)", i, alias, known)
		} else if alias > 0 {
			a.keep(topic, alias)
		}
	}
	if alias, known := a.find("home/3"); alias != 4 || !known {
		t.Errorf("the fourth has alias %d (%v)", alias, known)
	}
}
