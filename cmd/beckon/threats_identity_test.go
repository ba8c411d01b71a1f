package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// racer is a connection of cam that joins when it is told, as fast as it can.
type racer struct {
	at    entrance
	start func()
	heard chan string   // what the viewer says
	ended chan struct{} // by the server, or the test
	close func()
}

func (b *besieged) racer(t *testing.T, at entrance) *racer {
	r := &racer{at: at, heard: make(chan string, 100), ended: make(chan struct{})}
	if at.protocol == "JSON" {
		conn, in, _ := b.upgrade(t, at.scheme, "/ws")
		r.start = func() { _, _ = io.WriteString(conn, frame(0x81, `{"type":"join","room":"attic","peer":"cam"}`)) }
		r.close = func() { _ = conn.Close() }
		go func() {
			defer close(r.ended)
			for {
				opcode, said, err := readFrame(in)
				if err != nil || opcode == 8 {
					return
				}
				if strings.Contains(said, `"from":"viewer"`) || strings.Contains(said, `"joined"`) {
					r.heard <- said
				}
			}
		}()
		return r
	}
	w := b.wire(t, at.scheme, versionOf(at))
	w.connect("cam", "", "")
	join := w.publication("rtc/v1/attic/peers/cam", `{"online":true}`, true) + w.subscription("rtc/v1/attic/to/cam/+")
	r.start = func() { _, _ = io.WriteString(w.conn, join) }
	r.close = func() { _ = w.conn.Close() }
	go func() {
		defer close(r.ended)
		for {
			if kind, _, err := w.read(); err != nil || kind == 0xe0 {
				return
			}
			for _, h := range w.take() {
				if strings.HasSuffix(h.topic, "/viewer") || strings.Contains(h.payload, `"hello"`) {
					r.heard <- h.payload
				}
			}
		}
	}()
	return r
}

// Ten connections of one identity, one by each entrance, race for its place, time
// and again (three hundred races with -long): each time one is left, and hears.
func TestThreatRacesForOneNameLeaveExactlyOne(t *testing.T) {
	threat.Row(t, 4, threat.MQTT|threat.JSON)
	b := besiege(t)
	viewer := b.caller(t, jsonWS, "viewer", "attic")
	for round := range times(30, 300) {
		var racers []*racer
		for _, at := range twoWay {
			racers = append(racers, b.racer(t, at))
		}
		together(len(racers), func(i int) { racers[i].start() })
		var alive []*racer
		eventually(t, "all but one to be ended", func() bool {
			alive = alive[:0]
			for _, r := range racers {
				select {
				case <-r.ended:
				default:
					alive = append(alive, r)
				}
			}
			return len(alive) <= 1
		})
		if len(alive) != 1 {
			t.Fatalf("round %d: nobody is left", round)
		}
		last := alive[0]
		hears := func(what, want string) {
			for {
				select {
				case said := <-last.heard:
					if strings.Contains(said, want) {
						return
					}
				case <-last.ended:
					t.Fatalf("round %d: the last one, %v, was ended as well", round, last.at)
				case <-time.After(atMost):
					t.Fatalf("round %d: %v waited in vain for %s", round, last.at, what)
				}
			}
		}
		question := fmt.Sprintf("who is there, %d", round)
		hears("its welcome", `o`) // hello, or joined
		viewer.send("cam", fmt.Sprintf(`{"type":"msg","data":%q}`, question))
		hears("the question", question)
		for _, r := range racers {
			r.close()
			<-r.ended
			for len(r.heard) > 0 {
				if said := <-r.heard; strings.Contains(said, question) {
					t.Errorf("round %d: %v heard it, too: %s", round, r.at, said)
				}
			}
		}
		viewer.until("that cam is gone", func(e event) bool { return e.from == "cam" && e.gone() })
	}
	viewer.leave()
	b.unharmed(viewer)
}

// Whatever is published with the retain flag, the next who subscribes hears of the
// peers that are there, and of nothing else.
func TestThreatRetainedStateCannotBePoisoned(t *testing.T) {
	threat.Row(t, 6, threat.MQTT|threat.JSON)
	b := besiege(t)
	tries := 0
	schemes := []string{"tcp", "tls", "ws", "wss"}
	for _, scheme := range schemes {
		for _, version := range []byte{4, 5} {
			w := b.wire(t, scheme, version)
			w.connect("mallory", "", "")
			poison := func(n int) string {
				topic := []string{
					"rtc/v1/garage/peers/ghost%d", "rtc/v1/garage/peers/canary", "rtc/v1/garage/to/bird/mallory", "rtc/v1/garage/to/ghost%d/mallory",
					"rtc/v1/garage/all/mallory", "rtc/v1/garage/wake/bird", "rtc/v1/ghost%d/peers/ghost", "rtc/v1/garage/peers/_", "$SYS/ghost%d", "elsewhere/%d",
				}[n%10]
				if strings.Contains(topic, "%d") {
					topic = fmt.Sprintf(topic, n)
				}
				payload := []string{`{"online":true,"name":"hunted"}`, `{"type":"msg","data":"hunted"}`, ``, `hunted`}[n/10%4]
				return w.publication(topic, payload, true)
			}
			for range times(10, 125) { // 8 ways, a hundred at once
				var burst strings.Builder
				for range 100 {
					burst.WriteString(poison(tries))
					tries++
				}
				if a := w.ask(burst.String()); a[len(a)-1].kind == 0xe0 {
					t.Fatalf("by %s in version %d: %v", scheme, version, a[len(a)-1])
				}
			}
			w.conn.Close()
		}
	}
	j := b.caller(t, jsonWSS, "mallory", "attic")
	for n := range times(100, 1000) {
		frame := []string{
			`{"type":"presence","id":%d,"room":"garage","presence":{"name":"hunted"}}`,
			`{"type":"presence","id":%d,"room":"garage","peer":"canary","presence":{"name":"hunted"}}`,
			`{"type":"presence","id":%d,"room":"garage","from":"canary","presence":{"name":"hunted"}}`,
			`{"type":"presence","id":%d,"room":"nowhere","presence":{"name":"hunted"}}`,
		}[n%4]
		tries++
		if r, err := j.line.(*lineJSON).ask(func(id int) string { return fmt.Sprintf(frame, id) }); err != nil || r.code < 400 {
			t.Fatalf("%s: %v %v", frame, r, err)
		}
		for len(j.events) > 0 {
			<-j.events
		}
	}
	j.leave()

	late := b.wire(t, "tcp", 5) // as --dev has it, of any room
	late.connect("late", "", "")
	for _, room := range []string{"garage", "attic", "nowhere", "ghost6"} {
		late.ask(late.subscription("rtc/v1/"+room+"/peers/+") + late.subscription("rtc/v1/"+room+"/all/+"))
	}
	late.ask(late.subscription("$SYS/#") + late.subscription("#") + late.subscription("elsewhere/+"))
	known := make(map[string]bool)
	for _, h := range late.take() {
		known[h.topic] = true
		if strings.Contains(h.payload, "hunted") {
			t.Errorf("poison is retained: %v", h)
		}
	}
	if len(known) != 2 || !known["rtc/v1/garage/peers/canary"] || !known["rtc/v1/garage/peers/bird"] {
		t.Errorf("known are %v, want the two canaries", known)
	}
	late.conn.Close()
	t.Logf("%d tries; 2 presences are retained, of 2 peers", tries)
	b.unharmed(j)
}

// JSON on the edge is delivered as it is, or refused in words, the same at every
// entrance.
func TestThreatOddJSONIsRefusedOrTravelsUntouched(t *testing.T) {
	threat.Row(t, 25, threat.MQTT|threat.JSON|threat.HTTP)
	b := besiege(t)
	receiver := b.caller(t, mqtt3TCP, "receiver", "attic")
	made := []*caller{receiver}
	deep := func(n int) string {
		return `{"type":"msg","data":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	for _, at := range everyEntrance {
		sender := b.caller(t, at, "sender", "attic")
		made = append(made, sender)
		sender.sees("receiver")
		receiver.sees("sender")
		for payload, good := range map[string]bool{
			deep(15):                         true,
			deep(16):                         false,
			deep(10_000):                     false,
			`{"type":"msg","data":1e9999}`:   true,
			`{"type":"msg","data":-1e-9999}`: true,
			`{"type":"msg","data":` + strings.Repeat("9", 10_000) + `}`:        true,
			`{"type":"msg","data":"\ud800"}`:                                   true,
			`{"type":"msg","data":"\udc00\ud800"}`:                             true,
			`{"type":"msg","type":"bye","session":"s"}`:                        false,
			`{"type":"msg","t\u0079pe":"bye","session":"s"}`:                   false,
			`{"type":"offer","session":"s","session":"r","sdp":""}`:            false,
			`{"type":"msg","data":1,"data":2}`:                                 true,
			`{"type":"msg","data":NaN}`:                                        false,
			`{"type":"msg","data":01}`:                                         false,
			`{"type":"msg","data":"` + "\n" + `"}`:                             false,
			`{"type":"msg","data":1}}`:                                         false,
			`{"type":"\ud800"}`:                                                false,
			`{"Type":"msg"}`:                                                   false,
			`{"type":"msg",` + strings.Repeat(`"a":{},`, 5000) + `"data":[]}`:  true,
			`{"type":"msg","__proto__":{"type":"bye"},"constructor":"hunted"}`: true,
		} {
			if j, ok := sender.line.(*lineJSON); ok && !good {
				// without an id, which stands nowhere for sure in what is no JSON
				_ = j.ws.WriteMessage(websocket.TextMessage, []byte(strings.Replace(payload, "{", `{"room":"attic","to":"receiver",`, 1)))
			} else {
				sender.send("receiver", payload)
			}
			if good {
				receiver.hears("sender", payload)
				continue
			}
			sender.isTold(400)
		}
		sender.quiet()
		receiver.quiet()
		sender.leave()
		receiver.until("that sender is gone", func(e event) bool { return e.from == "sender" && e.gone() })
	}
	receiver.leave()
	b.unharmed(made...)
}
