package main

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBrowserWhoseConnectionIsCutMissesNothingAndNobodySeesItGo(t *testing.T) {
	t.Parallel()
	s := startSite(t, "--grace=50ms")
	way := newRoad(t, s.MQTT)
	carol := s.caller(t, jsonWS, "carol", "garage")
	erin := s.caller(t, jsonWS, "erin", "yard")
	tab := newAlice(t, s, way)
	bob := s.caller(t, jsonWS, "bob", "garage")
	bob.sees("alice", "carol")
	erin.sees("alice")
	tab.says(`[...room.peers.keys()].sort().join()`, "bob,carol")

	way.cut()
	for _, n := range []string{"1", "2", "3"} {
		bob.send("", `{"type":"msg","data":`+n+`}`)
	}
	bob.send("alice", `{"type":"msg","data":4}`)
	erin.send("", `{"type":"msg","data":"of the yard"}`)
	carol.leave()
	s.caller(t, mqtt3TCP, "dave", "garage")
	way.mend()
	tab.says(`said.filter((text) => text.includes("bob")).join()`, "1 of bob to all,2 of bob to all,3 of bob to all,4 of bob")
	tab.says(`said.filter((text) => text.includes("erin")).join()`, "of the yard of erin to all")
	tab.says(`[...room.peers.keys()].sort().join()`, "bob,dave")
	tab.says(`joinings.join()`, "resumed,resumed")

	way.cut() // the count goes on
	bob.send("alice", `{"type":"msg","data":5}`)
	tab.waitFor(`beckon.state !== "connected"`)
	tab.run(`yard.leave(), Promise.resolve("")`)
	way.mend()
	tab.says(`said.slice(5).join()`, "5 of bob")
	tab.says(`joinings.join()`, "resumed,resumed,resumed")
	erin.until("alice's leave", func(e event) bool { return e.from == "alice" && e.gone() })

	tab.run(`room.send("bob", { type: "msg", data: "still here" }).then(() => "")`)
	bob.until("alice's message, and no other word of alice", func(e event) bool {
		if e.from == "alice" && e.kind == "presence" {
			t.Errorf("bob saw %v", e)
		}
		return e.kind == "message" && strings.Contains(e.text, "still here")
	})
	erin.quiet()
}

func TestBrowserIsToldWhatBecameOfWhatItSentBeforeTheCut(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	way := newRoad(t, s.MQTT)
	tab := newAlice(t, s, way)
	bob := s.caller(t, jsonWS, "bob", "garage")
	tab.says(`[...room.peers.keys()].join()`, "bob")
	tab.run(`Promise.resolve(window.send = (data) => {
		window.fate = "";
		room.send("bob", { type: "msg", data }).then(() => { fate = "ok"; }, (error) => { fate = error.reason; });
		return "";
	}).then(() => "")`)

	way.lose(down)
	tab.run(`Promise.resolve(send(1))`)
	bob.hears("alice", `{"type":"msg","data":1}`)
	way.cut()
	way.mend()
	tab.says(`fate`, "ok")

	way.lose(up)
	tab.run(`Promise.resolve(send(2))`)
	tab.run(`room.announce({ name: "Alice" }), Promise.resolve("")`)
	way.cut()
	bob.send("alice", `{"type":"msg","data":"question"}`) // the browser answers as soon as it has it
	way.mend()
	tab.says(`fate`, "disconnected")
	var got []string
	for len(got) < 2 {
		e := bob.next("the answer, and the presence that was lost and said again")
		got = append(got, e.kind)
		if e.from != "alice" || e.kind == "message" && e.text != `{"type":"msg","data":"answer"}` || e.kind == "presence" && !strings.Contains(e.text, `"Alice"`) {
			t.Errorf("bob got %v", e)
		}
	}
	bob.quiet()
}

func TestBrowserTakesNoMessageOfAPeerForAnAnswer(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	way := newRoad(t, s.MQTT)
	tab := newAlice(t, s, way)
	mallory := s.caller(t, mqtt3TCP, "mallory", "garage")
	tab.says(`[...room.peers.keys()].join()`, "mallory")
	way.lose(up)
	tab.run(`Promise.resolve(room.send("mallory", { type: "msg" }).then(() => { fate = "ok"; }, (error) => { fate = error.reason; })) && Promise.resolve("")`)
	var want []string
	for id := range 20 {
		mallory.send("alice", `{"type":"msg","data":`+strconv.Itoa(id)+`,"id":`+strconv.Itoa(id)+`}`)
		want = append(want, strconv.Itoa(id)+" of mallory")
	}
	tab.says(`said.join()`, strings.Join(want, ","))
	tab.says(`fate`, "")
	way.cut()
	way.mend()
	tab.says(`fate`, "disconnected")
}

// The cuts come at any time, also while the session is being resumed.
func TestNothingIsLostOrComesTwiceWhenTheConnectionIsCutAgainAndAgain(t *testing.T) {
	t.Parallel()
	const rounds, each = 40, 5
	s := startSite(t)
	way := newRoad(t, s.MQTT)
	tab := newAlice(t, s, way)
	bob := s.caller(t, jsonWS, "bob", "garage")
	tab.run(`Promise.resolve(window.talk = (async () => {
		for (let n = 0; n < 100;) {
			try {
				await room.send("bob", { type: "msg", data: n });
				n++;
			} catch (error) {
				if (error.reason !== "disconnected") throw error;
				await new Promise((wake) => setTimeout(wake, 5)); // it has not arrived, and is sent again
			}
		}
		return "";
	})()) && Promise.resolve("")`)
	tab.run(`Promise.resolve(String(setInterval(() => dispatchEvent(new Event("online")), 5)))`) // so it does not wait before it comes back
	var want []string
	for round := range rounds {
		for n := range each {
			text := strconv.Itoa(round*each + n)
			if n%2 == 0 {
				if fate := bob.send("alice", `{"type":"msg","data":`+text+`}`); fate != 0 {
					t.Errorf("message %s is refused with %d", text, fate)
				}
				want = append(want, text+" of bob")
			} else {
				bob.send("", `{"type":"msg","data":`+text+`}`)
				want = append(want, text+" of bob to all")
			}
		}
		way.cut()
		if way.mend(); round%3 == 0 {
			eventually(t, "the way back", way.used)
		}
		if round%5 == 4 { // so that no more waits than may, 32 of one sender
			tab.says(`said.at(-1)`, want[len(want)-1])
		}
	}
	tab.says(`said.join()`, strings.Join(want, ","))
	tab.run(`talk`)
	for n := range 100 {
		bob.hears("alice", `{"type":"msg","data":`+strconv.Itoa(n)+`}`)
	}
	bob.quiet()
	tab.says(`joinings.filter((how) => how !== "resumed").length + ""`, "0")
	t.Logf("resumed %s times", tab.run(`Promise.resolve(String(joinings.length / 2))`))
}

func TestBrowserThatComesBackTooLateJoinsAnew(t *testing.T) {
	t.Parallel()
	s := startSite(t, "--grace=50ms", "--resume=50ms")
	way := newRoad(t, s.MQTT)
	carol := s.caller(t, jsonWS, "carol", "garage")
	tab := newAlice(t, s, way)
	bob := s.caller(t, jsonWS, "bob", "garage")
	bob.sees("alice", "carol")
	tab.says(`[...room.peers.keys()].sort().join()`, "bob,carol")

	way.lose(up)
	tab.run(`Promise.resolve(room.send("bob", { type: "msg" }).catch((error) => { window.fate = error.reason; })) && Promise.resolve("")`)
	way.cut()
	bob.until("alice's leave", func(e event) bool { return e.from == "alice" && e.gone() })
	carol.leave()
	s.caller(t, mqtt3TCP, "dave", "garage")
	way.mend()
	tab.says(`joinings.join()`, "anew,anew")
	tab.says(`[...room.peers.keys()].sort().join()`, "bob,dave")
	tab.says(`fate`, "disconnected")
	bob.sees("dave")
	bob.until("alice's return", func(e event) bool { return e.from == "alice" && e.kind == "presence" && !e.gone() })

	other := startSite(t)
	other.caller(t, jsonWS, "zoe", "garage")
	way.lead(other.MQTT) // where nobody knows the session
	way.cut()
	way.mend()
	tab.says(`joinings.slice(2).join()`, "anew,anew")
	tab.says(`[...room.peers.keys()].join()`, "zoe")

	way.lead(s.MQTT)
	if err := other.Stop(); err != nil { // it says goaway
		t.Error(err)
	}
	tab.says(`joinings.slice(4).join()`, "anew,anew")
	tab.says(`[...room.peers.keys()].sort().join()`, "bob,dave")
}

func TestCallsOutliveACutWithoutAnotherOffer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	startCamera(t, s)
	way := newRoad(t, s.MQTT)
	tab := newTab(t, "http://"+way.address+"/?room=garage&peer=alice")
	tab.waitFor(`document.querySelector('[data-peer="cam1"] .watch')`)
	way.lose(up)
	tab.run(`Promise.resolve(String(document.querySelector('[data-peer="cam1"] .watch').click()))`)
	tab.waitFor(`document.querySelector('#timeline [data-type="candidate"][data-dir="out"]')`)
	way.cut() // the offer is lost, and said again
	way.mend()
	tab.playing(`[data-tile="cam1"] video`, 640, 360)
	tab.says(`String(document.querySelectorAll('#timeline [data-type="bye"]').length)`, "0") // it is the first call

	offers := tab.run(`Promise.resolve(window.offers = () => String(document.querySelectorAll('#timeline [data-type="offer"]').length)).then(() => offers())`)
	way.cut()
	tab.waitFor(`document.querySelector('#status').dataset.state === 'waiting'`)
	way.mend()
	tab.waitFor(`[...document.querySelectorAll('#timeline [data-type="joined"]')].filter((row) => row.innerText.includes("resumed after")).length === 2`)
	tab.waitFor(`document.querySelector('#status').dataset.state === 'connected'`)
	tab.playing(`[data-tile="cam1"] video`, 640, 360)
	tab.says(`document.querySelector('[data-tile="cam1"]').dataset.state + offers()`, "live"+offers)
	tab.screenshot("resumed")
}

// newAlice opens a page with beckon.js as alice, in the rooms garage and yard over
// way; it answers questions, and keeps what else it was told.
func newAlice(t *testing.T, s *site, way *road) *tab {
	t.Helper()
	tab := newTab(t, s.URL+"/?room=attic&peer=somebody")
	tab.waitFor(`document.querySelector('#status').dataset.state === 'connected'`)
	tab.run(`(async () => {
		const { connect } = await import("/beckon.js");
		Object.assign(window, { said: [], joinings: [], fate: "" });
		window.beckon = connect("ws://` + way.address + `/ws");
		const join = async (name) => {
			const room = await beckon.join(name, { peer: "alice" });
			room.addEventListener("message", ({ from, all, message: { data } }) => {
				if (data === "question") room.send(from, { type: "msg", data: "answer" });
				else said.push(data + " of " + from + (all ? " to all" : ""));
			});
			room.addEventListener("joined", ({ resumed }) => joinings.push(resumed ? "resumed" : "anew"));
			return room;
		};
		window.room = await join("garage");
		window.yard = await join("yard");
		return "";
	})()`)
	return tab
}

// says waits until an expression has that value in the page.
func (tab *tab) says(expression, want string) {
	tab.t.Helper()
	defer func() {
		if tab.t.Failed() {
			tab.t.Logf("%s is %s\nwant %s", expression, tab.run(`Promise.resolve(String(`+expression+`))`), want)
		}
	}()
	tab.waitFor(`(` + expression + `) === "` + want + `"`)
}

// road is a TCP proxy on the way to a server that can be cut.
type road struct {
	address string

	mu    sync.Mutex
	to    string
	shut  bool
	lost  map[direction]bool
	conns map[net.Conn]bool
	going sync.WaitGroup
}

type direction string

const (
	up   direction = "to the server"
	down direction = "from the server"
)

func newRoad(t *testing.T, to string) *road {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{address: listener.Addr().String(), to: to, lost: make(map[direction]bool), conns: make(map[net.Conn]bool)}
	r.going.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.going.Go(func() { r.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.cut()
		r.going.Wait()
	})
	return r
}

// carry takes one connection to the server.
func (r *road) carry(near net.Conn) {
	defer near.Close()
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	far, err := net.DialTimeout("tcp", to, 5*time.Second)
	if err != nil {
		return
	}
	defer far.Close()
	r.mu.Lock()
	if r.shut {
		r.mu.Unlock()
		return
	}
	r.conns[near], r.conns[far] = true, true
	r.mu.Unlock()
	r.going.Go(func() { r.pass(up, near, far) })
	r.pass(down, far, near)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, near)
	delete(r.conns, far)
}

// pass carries what goes in one direction, or loses it.
func (r *road) pass(way direction, from, to net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		lost := r.lost[way]
		r.mu.Unlock()
		if lost {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// lose loses all that goes that way, until the road is mended.
func (r *road) lose(way direction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[way] = true
}

// cut breaks every connection, and lets no other through.
func (r *road) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	for conn := range r.conns {
		_ = conn.Close()
	}
}

func (r *road) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = false
	clear(r.lost)
}

// used reports whether there are connections.
func (r *road) used() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns) > 0
}

// lead leads the connections to come to another server.
func (r *road) lead(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}
