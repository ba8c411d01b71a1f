package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// call is what two peers say in one session, in odd spellings: white space,
// escapes, unknown members, numbers that no float holds, names in other case.
func call(session string) (there, back []string, bye string) {
	there = []string{
		"\n { \"type\" : \"offer\" ,\t\"session\":\"" + session + "\", \"sdp\":\"v=0\\r\\no=- \\u00e9\\/\\ud83d\\ude00 \\\"q\\\" é😀\"," +
			"\"x-unknown\":{\"a\":[1,{\"b\":null}],\"deep\":[[[[]]]]},\"big\":123456789012345678901234567890.000e+99,\"minus\":-0.0,\"Type\":\"bye\",\"\":\"\" }\r\n",
		`{"\u0074ype":"candidate","session":"` + session + `","candidate":"candidate:1 1 udp 2122260223 127.0.0.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw"}`,
		`{"session":"` + session + `","candidate":"two","x":1,"x":2,"type":"candid\u0061te"}`,
		`{ "type":"candidate","session":"` + session + `","candidate":"" }`,
	}
	back = []string{
		`{"type":"answer","session":"` + session + `","sdp":"v=0\r\n","empty":{},"list":[ ] , "t":true}`,
		`{"type":"candidate","session":"` + session + `","candidate":"\u0000\u001f"}`,
	}
	return there, back, `{"reason":"hangup","session":"` + session + `","type":"bye"}`
}

func TestPeersAtEveryDoorSeeEachOtherAndCallEachOtherByteForByte(t *testing.T) {
	for name, doors := range map[string][]entrance{
		"plain":        {mqtt3TCP, mqtt5TCP, jsonWS, mqtt3WS},
		"TLS":          {mqtt3TLS, mqtt5TLS, jsonWSS, mqtt3WSS},
		"rest":         {mqtt5WS, mqtt5WSS, jsonWS, jsonWSS},
		"one listener": {mqtt3TLS, mqtt5WSS, jsonWS, mqtt3TCP},
		"HTTP":         {sseHTTP, mqtt3TCP, sseHTTPS, jsonWS, mqtt5TCP},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t)
			peers := meet(t, s, "garage", doors)
			for _, a := range peers {
				for _, b := range peers {
					if a == b {
						continue
					}
					there, back, bye := call(a.name + "-" + b.name)
					a.send(b.name, there...)
					b.hears(a.name, there...)
					b.send(a.name, back...)
					a.hears(b.name, back...)
					a.send(b.name, bye)
					b.hears(a.name, bye)
				}
			}
			for _, p := range peers {
				p.quiet()
			}
		})
	}
}

// meet lets a peer at each of the entrances join room, and see the others.
func meet(t *testing.T, s *site, room string, at []entrance) []*caller {
	t.Helper()
	var peers []*caller
	for i, e := range at {
		peers = append(peers, s.caller(t, e, fmt.Sprintf("peer%d", i), room))
	}
	for _, p := range peers {
		for _, other := range peers {
			if p == other {
				continue
			}
			p.sees(other.name)
			via := "mqtt"
			switch other.at.protocol {
			case "JSON":
				via = "ws"
			case "HTTP":
				via = "http"
			}
			presence := p.present[other.name]
			if !strings.HasPrefix(presence, `{"online":true,"name":"`+other.name+`","since":`) || !strings.HasSuffix(presence, `,"via":"`+via+`"}`) {
				t.Errorf("%v sees %v as %s", p.at, other.at, presence)
			}
		}
	}
	return peers
}

func TestRoutingMembersOfAnMQTTMessageAreCutForWebSocketsOnly(t *testing.T) {
	s := startSite(t)
	peers := meet(t, s, "garage", []entrance{mqtt3TCP, jsonWS, mqtt5TCP})
	mqtt3, json, mqtt5 := peers[0], peers[1], peers[2]
	mqtt3.send(mqtt5.name, `{"room":"garage","from":"peer0" , "type":"msg","to":"peer2","data":1}`)
	mqtt5.hears(mqtt3.name, `{"room":"garage","from":"peer0" , "type":"msg","to":"peer2","data":1}`)
	mqtt3.send(json.name, `{"room":"garage","from":"peer0" , "type":"msg","to":"peer1","data":1}`)
	json.hears(mqtt3.name, `{"type":"msg","data":1}`)
}

func TestCandidatesOfEveryoneAtOnceStayInTheOrderOfTheirSender(t *testing.T) {
	const each = 40
	s := startSite(t)
	peers := meet(t, s, "garage", mainEntrances)
	var sending sync.WaitGroup
	failed := make(chan error, len(peers))
	for _, a := range peers {
		sending.Go(func() {
			var errs []error
			for _, b := range peers {
				if a == b {
					continue
				}
				var trickle []string
				for n := range each {
					trickle = append(trickle, fmt.Sprintf(`{"type":"candidate","session":"s","candidate":"%d"}`, n))
				}
				_, err := a.line.send("garage", b.name, trickle...)
				errs = append(errs, err)
			}
			failed <- errors.Join(errs...)
		})
	}
	sending.Wait()
	for range peers {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range peers {
		count := make(map[string]int)
		for range each * (len(peers) - 1) {
			e := b.next("a candidate")
			if want := fmt.Sprintf(`{"type":"candidate","session":"s","candidate":"%d"}`, count[e.from]); e.text != want {
				t.Fatalf("%v got %v\nwant %s", b.at, e, want)
			}
			count[e.from]++
		}
		b.quiet()
	}
}

func TestWhatIsSaidToAllReachesEveryoneElseOnceAtEveryDoor(t *testing.T) {
	s := startSite(t)
	peers := meet(t, s, "garage", everyEntrance)
	for i, p := range peers {
		said := fmt.Sprintf("{ \"type\":\"msg\", \"data\":[%d,1e400] }", i)
		p.send("", said)
		for _, other := range peers {
			if other == p {
				continue
			}
			if e := other.next("what is said to all"); e.kind != "all" || e.from != p.name || e.text != said {
				t.Errorf("%v got %v, want %s", other.at, e, said)
			}
		}
	}
	for _, p := range peers {
		p.quiet()
	}
}

func TestOfferToNobodyIsToldAtOnceAtEveryDoor(t *testing.T) {
	s := startSite(t)
	for _, at := range everyEntrance {
		t.Run(at.String(), func(t *testing.T) {
			p := s.caller(t, at, "alice", strings.ReplaceAll(at.String(), " ", "-"))
			fate := p.send("nobody", `{"type":"offer","session":"k3","sdp":""}`)
			p.isTold(404, `"reason":"not-found"`, `"temporary":false`, `"session":"k3"`, `"to":"nobody"`, `"about":"offer"`)
			if want := map[string]int{"MQTT 5": 0x10, "JSON": 404, "HTTP": 404}[at.protocol]; fate != want {
				t.Errorf("the sender was answered with %#x, want %#x", fate, want)
			}
			p.quiet()
		})
	}
}

func TestObserverSeesWhatWebSocketPeersSayToEachOtherAndSaysNothing(t *testing.T) {
	s := startSite(t)
	for _, at := range []entrance{mqtt3TCP, mqtt5TCP, mqtt3WSS, mqtt5WS} {
		t.Run(at.String(), func(t *testing.T) {
			room := strings.ReplaceAll(at.String(), " ", "-")
			a, b := s.caller(t, jsonWS, "a", room), s.caller(t, jsonWSS, "b", room)
			a.sees("b")
			observer := s.connect(t, at, "observer")
			subscribe(t, observer, "rtc/v1/"+room+"/#")
			observer.sees("a", "b")
			there, back, bye := call("k3")
			a.send("b", there...)
			b.hears("a", there...)
			observer.hears("a", there...)
			b.send("a", back...)
			a.hears("b", back...)
			observer.hears("b", back...)
			a.send("b", bye)
			b.hears("a", bye)
			observer.hears("a", bye)
			if fate, err := observer.line.send(room, "a", `{"type":"msg"}`); err != nil || at.protocol == "MQTT 5" && fate != 0x87 {
				t.Errorf("what the observer said was answered with %#x, %v", fate, err)
			}
			a.quiet()
			b.quiet()
		})
	}
}

// subscribe subscribes to a filter by MQTT.
func subscribe(t *testing.T, c *caller, filter string) {
	t.Helper()
	l := c.line.(interface{ subscribe(string) error })
	if err := l.subscribe(filter); err != nil {
		t.Fatal(err)
	}
}
