package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// roomOf makes the name of a room out of entrances.
func roomOf(at ...entrance) string {
	return strings.NewReplacer(" ", "-", "[", "", "]", "").Replace(fmt.Sprint(at))
}

// viewers lets one of each kind join the room of cam, who is there, and open a
// session with it.
func viewers(t *testing.T, s *site, cam *caller) []*caller {
	t.Helper()
	var all []*caller
	for i, at := range mainEntrances {
		v := s.caller(t, at, fmt.Sprintf("viewer%d", i), cam.room)
		v.sees(cam.name)
		offer := fmt.Sprintf(`{"type":"offer","session":"s%d","sdp":""}`, i)
		v.send(cam.name, offer)
		cam.until("the offer", func(e event) bool { return e.from == v.name && e.text == offer })
		all = append(all, v)
	}
	for _, v := range all {
		for _, other := range all {
			if v != other {
				v.sees(other.name)
			}
		}
	}
	return all
}

// firstOffer is true of the offers that viewers made.
func firstOffer(e event) bool {
	return e.kind == "message" && strings.HasPrefix(e.text, `{"type":"offer","session":"s`)
}

func TestCameraWhoseConnectionBreaksIsGoneAfterTheGraceAtEveryDoor(t *testing.T) {
	t.Parallel()
	const grace = 200 * time.Millisecond
	s := startSite(t, "--grace="+grace.String())
	for _, at := range everyEntrance {
		t.Run(at.String(), func(t *testing.T) {
			cam := s.caller(t, at, "cam", roomOf(at))
			all := viewers(t, s, cam)
			cut := time.Now()
			cam.cut()
			for i, v := range all {
				v.hears("cam", fmt.Sprintf(`{"type":"bye","session":"s%d","reason":"gone"}`, i))
				if after := time.Since(cut); after < grace {
					t.Errorf("%v was told after %v, within the grace", v.at, after)
				}
				if e := v.next("the presence"); !e.gone() || e.from != "cam" {
					t.Errorf("%v got %v, want that cam is gone", v.at, e)
				}
				v.send("cam", `{"type":"offer","session":"again","sdp":""}`)
				v.isTold(404, `"session":"again"`)
				v.quiet()
			}
		})
	}
}

func TestCameraThatIsBackInTimeDoesNotFlapAndGetsWhatWaitedInOrder(t *testing.T) {
	s := startSite(t, "--grace=1h")
	for _, at := range everyEntrance {
		t.Run(at.String(), func(t *testing.T) {
			cam := s.caller(t, at, "cam", roomOf(at))
			all := viewers(t, s, cam)
			cam.cut()
			s.awaitLog(t, `msg="connection lost" room=`+cam.room+" peer=cam")
			var waiting []string
			for i, v := range all {
				there, _, _ := call(fmt.Sprintf("again%d", i))
				if fate := v.send("cam", there...); fate != 0 {
					t.Errorf("%v was answered with %#x while cam is expected back", v.at, fate)
				}
				waiting = append(waiting, there...)
			}
			back := s.caller(t, at, "cam", cam.room)
			back.again = firstOffer
			for _, v := range all {
				back.hears(v.name, waiting[:4]...)
				waiting = waiting[4:]
			}
			for _, v := range all {
				v.quiet()
				v.send("cam", `{"type":"msg"}`)
				back.until("a message", func(e event) bool { return e.from == v.name && e.text == `{"type":"msg"}` })
			}
		})
	}
}

func TestCameraMayComeBackThroughAnotherDoor(t *testing.T) {
	s := startSite(t, "--grace=1h")
	for _, doors := range [][2]entrance{{mqtt3TLS, jsonWS}, {jsonWSS, mqtt5WS}, {mqtt5TCP, mqtt3WSS}, {sseHTTP, mqtt3TCP}, {jsonWS, sseHTTPS}} {
		t.Run(fmt.Sprint(doors), func(t *testing.T) {
			cam := s.caller(t, doors[0], "cam", roomOf(doors[:]...))
			all := viewers(t, s, cam)
			cam.cut()
			s.awaitLog(t, `msg="connection lost" room=`+cam.room+" peer=cam")
			all[2].send("cam", `{"type":"candidate","session":"s2","candidate":""}`)
			back := s.caller(t, doors[1], "cam", cam.room)
			back.again = firstOffer
			back.hears(all[2].name, `{"type":"candidate","session":"s2","candidate":""}`)
			for _, v := range all {
				v.quiet(changed)
			}
		})
	}
}

// changed allows that a peer is there by another door now.
func changed(e event) bool {
	return e.kind == "presence" && e.from == "cam" && strings.Contains(e.text, `"online":true`)
}

func TestSameNameTakesOverThroughEveryDoorAndTheOldOneIsToldAndClosed(t *testing.T) {
	threat.Row(t, 4, threat.TCP|threat.TLS3|threat.WS3|threat.WS5|threat.JSON|threat.HTTP)
	s := startSite(t, "--grace=1h")
	for _, from := range append([]entrance{sseHTTP}, mainEntrances...) {
		for _, to := range []entrance{mqtt3TLS, mqtt5WSS, jsonWSS} {
			t.Run(fmt.Sprint(from, " to ", to), func(t *testing.T) {
				old := s.caller(t, from, "cam", roomOf(from, to))
				all := viewers(t, s, old)
				young := s.caller(t, to, "cam", old.room)
				young.again = firstOffer
				old.until("that it is replaced", func(e event) bool {
					return e.kind == "error" && strings.Contains(e.text, `"code":409,"reason":"replaced"`)
				})
				old.isEnded("0x8E", "4511")
				for i, v := range all {
					candidate := fmt.Sprintf(`{"type":"candidate","session":"s%d","candidate":""}`, i)
					v.send("cam", candidate)
					young.hears(v.name, candidate)
					v.quiet(changed) // and no bye: the session goes on
				}
				young.leave()
				for i, v := range all {
					v.hears("cam", fmt.Sprintf(`{"type":"bye","session":"s%d","reason":"gone"}`, i))
					if e := v.next("the presence"); !e.gone() {
						t.Errorf("%v got %v, want that cam is gone", v.at, e)
					}
				}
			})
		}
	}
}

func TestLateLeaveOfAReplacedConnectionRemovesNothing(t *testing.T) {
	s := startSite(t, "--grace=0")
	for _, from := range mainEntrances {
		for _, to := range mainEntrances {
			t.Run(fmt.Sprint(from, " to ", to), func(t *testing.T) {
				garage, attic := "garage-"+roomOf(from, to), "attic-"+roomOf(from, to)
				old := s.caller(t, from, "cam", garage)
				old.join(attic) // so that it stays when it is replaced in the garage
				here := s.caller(t, mqtt5TCP, "here", garage)
				there := s.caller(t, jsonWS, "there", attic)
				here.sees("cam")
				there.sees("cam")
				young := s.caller(t, to, "cam", garage)
				old.until("that it is replaced", func(e event) bool { return e.kind == "error" && e.room == garage })
				if err := old.part(garage); err != nil {
					t.Fatal(err)
				}
				there.quiet() // it is still there
				old.cut()
				there.until("that cam is gone", event.gone)
				here.send("cam", `{"type":"msg"}`)
				young.until("a message", func(e event) bool { return e.from == "here" })
				here.quiet(changed)
			})
		}
	}
}

func TestLateLossOfAnOldConnectionRemovesNothing(t *testing.T) {
	s := startSite(t, "--grace=1h")
	for _, at := range mainEntrances {
		t.Run(at.String(), func(t *testing.T) {
			room := roomOf(at)
			viewer := s.caller(t, jsonWS, "viewer", room)
			const times = 5
			for range times { // the loss is noticed before the next one comes, or after
				s.caller(t, at, "cam", room).cut()
			}
			last := s.caller(t, at, "cam", room)
			eventually(t, "the end of the others", func() bool {
				log := s.Log.String()
				return strings.Count(log, `msg="connection lost" room=`+room)+strings.Count(log, "msg=replaced room="+room) >= times
			})
			viewer.sees("cam")
			viewer.send("cam", `{"type":"msg"}`)
			last.hears("viewer", `{"type":"msg"}`)
			viewer.quiet()
		})
	}
}

func TestStopTellsEveryClientAndNobodyIsSaidToBeGone(t *testing.T) {
	s := startSite(t, "--grace=0")
	cam := s.caller(t, mqtt3TCP, "cam", "garage")
	everyone := append(viewers(t, s, cam), cam)
	for i, at := range everyEntrance {
		everyone = append(everyone, s.caller(t, at, fmt.Sprintf("guest%d", i), "garage"))
	}
	for _, c := range everyone {
		for i := range everyEntrance {
			if name := fmt.Sprintf("guest%d", i); name != c.name {
				c.sees(name)
			}
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, c := range everyone {
		c.isEnded("0x8B", "4001")
		c.line.leave() // it is over: its client winds up
		goaway := false
		for len(c.events) > 0 {
			switch e := <-c.events; {
			case e.kind == "goaway":
				goaway = true
			case e.kind == "presence", strings.Contains(e.text, `"bye"`), e.kind == "error":
				t.Errorf("%s (%v) got %v from a server that stops", c.name, c.at, e)
			}
		}
		if goaway != (c.at.protocol == "JSON" || c.at.protocol == "HTTP") {
			t.Errorf("%s (%v) got a goaway: %v", c.name, c.at, goaway)
		}
	}
}

func TestHundredComingsAndGoingsThroughEachDoorLeaveNoGoroutine(t *testing.T) {
	const times = 100
	s := startSite(t, "--grace=0")
	watcher := s.caller(t, jsonWS, "watcher", "garage")
	visit := func(at entrance, n int) {
		c := s.caller(t, at, fmt.Sprintf("guest%d", n), "garage")
		watcher.until("a guest", func(e event) bool { return e.from == c.name && !e.gone() })
		if n%2 == 0 {
			c.leave()
		} else {
			c.cut()
		}
		watcher.until("its going", func(e event) bool { return e.from == c.name && e.gone() })
	}
	for _, at := range everyEntrance {
		visit(at, 0) // whatever starts but once
		visit(at, 1)
	}
	before := settledGoroutines()
	for _, at := range everyEntrance {
		for n := range times {
			visit(at, n)
		}
		eventually(t, fmt.Sprintf("%d goroutines after %v", before, at), func() bool { return runtime.NumGoroutine() <= before })
	}
	watcher.quiet()
}

// settledGoroutines is the number of goroutines when those that are ending have
// ended: the least of those seen lately.
func settledGoroutines() int {
	var seen []int
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		<-tick.C
		seen = append(seen, runtime.NumGoroutine())
	}
	return slices.Min(seen)
}

// drains has the server stop while a client is there that reads nothing, and so
// answers no close frame: it drains as long as it may.
func (s *site) drains(t *testing.T) (stopped <-chan error) {
	t.Helper()
	socket, _, err := websocket.DefaultDialer.Dial(s.WS, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	if err := socket.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","room":"garage","peer":"deaf"}`)); err != nil {
		t.Fatal(err)
	}
	s.awaitLog(t, "msg=joined", "peer=deaf")
	end := make(chan error, 1)
	go func() { end <- s.Stop() }()
	return end
}

// A load balancer asks over a connection of its own, and must hear 503 rather
// than be refused, while clients are being told.
func TestReadyzSaysDrainingToNewConnectionsDuringTheDrain(t *testing.T) {
	s := startSite(t)
	stopped := s.drains(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		answer, err := client.Get(s.URL + "/readyz")
		if err != nil {
			t.Fatalf("during the drain: %v", err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusServiceUnavailable {
			break
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Revocations are taken to the end: a drain may last 25 s.
func TestFilesAreReadAgainDuringTheDrain(t *testing.T) {
	s := startSite(t)
	stopped := s.drains(t)
	s.awaitLog(t, "msg=stopping")
	select {
	case s.Reload <- syscall.SIGHUP:
	case err := <-stopped:
		t.Fatal("it stopped without having taken SIGHUP: ", err)
	}
	s.awaitLog(t, "reloaded, as SIGHUP asks")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A flood is slowed down, told, and cut off, and the others do not feel it.
func TestFloodIsCutOffAtEveryKindOfDoorWhileOthersGoOn(t *testing.T) {
	threat.Row(t, 16, threat.TCP|threat.WS3|threat.JSON)
	s := startSite(t, "--limit-rate=50", "--limit-burst=5")
	alice, bob := s.caller(t, jsonWS, "alice", "calm"), s.caller(t, mqtt3TCP, "bob", "calm")
	alice.sees("bob")
	bob.sees("alice")
	var floods []*caller
	var flooding sync.WaitGroup
	for _, at := range mainEntrances {
		flood := s.caller(t, at, "flood", roomOf(at))
		floods = append(floods, flood)
		flooding.Go(func() {
			for {
				if _, err := flood.line.send(flood.room, "", `{"type":"msg"}`); err != nil {
					return
				}
			}
		})
	}
	for _, flood := range floods {
		alice.send("bob", `{"type":"msg"}`)
		bob.hears("alice", `{"type":"msg"}`)
		flood.until("that it is told", func(e event) bool { return e.kind == "error" && strings.Contains(e.text, `"code":429`) })
		flood.isEnded("0x96", "4029")
		bob.send("alice", `{"type":"msg"}`)
		alice.hears("bob", `{"type":"msg"}`)
	}
	flooding.Wait()
}

// The cap on connections that have not authenticated counts a WebSocket until its
// first join, as it counts MQTT until its CONNACK.
func TestWebSocketsWithoutAJoinAreUnderTheCap(t *testing.T) {
	threat.Row(t, 14, threat.JSON)
	const most = 5
	s := startSite(t, fmt.Sprintf("--limit-unauthenticated=%d", most))
	var open []*websocket.Conn
	refused := 0
	for range 20 {
		c, _, err := websocket.DefaultDialer.Dial(s.WS, nil)
		if err != nil {
			refused++ // at the upgrade by 503, or at once
			continue
		}
		defer c.Close()
		open = append(open, c)
	}
	if len(open) > most || refused == 0 {
		t.Fatalf("%d are open and %d were refused, the cap is %d", len(open), refused, most)
	}
	if err := open[0].WriteMessage(websocket.TextMessage, []byte(`{"type":"join","room":"garage","peer":"in"}`)); err != nil {
		t.Fatal(err)
	}
	s.awaitLog(t, "msg=joined", "peer=in")
	eventually(t, "the place of the one that joined", func() bool {
		c, _, err := websocket.DefaultDialer.Dial(s.WS, nil)
		if err != nil {
			return false
		}
		defer c.Close()
		return true
	})
}

// A request counts like that while its credentials are looked at.
func TestRequestsThatAreAuthenticatedAreUnderTheCap(t *testing.T) {
	t.Parallel()
	const most = 2
	for path, method := range map[string]string{"/api/v1/rooms": "GET", "/whep/garage/cam1": "POST"} {
		t.Run(path, func(t *testing.T) {
			asked := make(chan struct{}, most+1)
			hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				asked <- struct{}{}
				<-r.Context().Done()
			}))
			defer hook.Close()
			s := startSite(t, "--auth-url="+hook.URL, fmt.Sprintf("--limit-unauthenticated=%d", most))
			ctx, cancel := context.WithCancel(t.Context())
			ask := func(client *http.Client) (status int, body string) {
				r, _ := http.NewRequestWithContext(ctx, method, s.URL+path, strings.NewReader(whepOffer))
				r.Header.Set("Content-Type", "application/sdp")
				r.SetBasicAuth("alice", "hunter2")
				answer, err := client.Do(r)
				if err != nil {
					return 0, err.Error()
				}
				defer answer.Body.Close()
				text, _ := io.ReadAll(answer.Body)
				return answer.StatusCode, string(text)
			}
			kept := &http.Client{Transport: new(http.Transport)} // with a connection that was answered
			defer kept.CloseIdleConnections()
			answer, err := kept.Get(s.URL + "/healthz")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			var waiting sync.WaitGroup
			for range most {
				waiting.Go(func() { ask(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}) })
				<-asked
			}
			if status, body := ask(kept); status != http.StatusServiceUnavailable || !strings.Contains(body, "too many connections are not authenticated") {
				t.Errorf("one more than may wait is answered %d %s", status, body)
			}
			cancel()
			waiting.Wait()
		})
	}
}
