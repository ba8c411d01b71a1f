package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const maxCalls = 1000 // that are remembered; beyond it the oldest is forgotten

// watch turns what is said on the topics into lines for people. It remembers
// who is there and the calls that have not ended. It never looks at an SDP or
// a candidate.
type watch struct {
	base  string             // "rtc/v1/"
	peers map[address]string // who is online, and how they were introduced
	calls map[callID]*call
	order []*call // oldest first; holds ended ones until they are swept out
}

type address struct{ room, peer string }

// callID names a call: sessions are unique between two peers, given in order.
type callID struct{ room, session, low, high string }

type call struct {
	id             callID
	caller, callee string
	began          time.Time
	answered       time.Time // zero: not yet
	over           bool
}

func (c *call) String() string {
	return fmt.Sprintf("call %s %s <-> %s", c.id.session, c.caller, c.callee)
}

func newWatch(root string) *watch {
	return &watch{base: root + "/v1/", peers: map[address]string{}, calls: map[callID]*call{}}
}

// hear takes one publish and returns the lines it is worth, often none.
func (w *watch) hear(now time.Time, topic string, payload []byte) []string {
	rest, ok := strings.CutPrefix(topic, w.base)
	if !ok {
		return nil
	}
	var text string
	switch levels := strings.Split(rest, "/"); {
	case len(levels) == 3 && levels[1] == "peers":
		text = w.presence(address{levels[0], levels[2]}, payload)
	case len(levels) == 4 && levels[1] == "to":
		text = w.message(now, levels[0], levels[3], levels[2], payload)
	}
	if text == "" {
		return nil
	}
	room, _, _ := strings.Cut(rest, "/")
	return []string{room + "  " + text}
}

// presence says who came and who went; a peer that only changes its presence
// is introduced again when there is something new to say.
func (w *watch) presence(who address, payload []byte) string {
	var p struct {
		Online          bool
		Role, Name, Via string
	}
	if len(payload) > 0 && json.Unmarshal(payload, &p) != nil {
		return ""
	}
	before, there := w.peers[who]
	if !p.Online { // empty: gone; {"online":false}: a device that is known
		delete(w.peers, who)
		if !there {
			return ""
		}
		return "- " + who.peer
	}

	text := "+ " + who.peer
	about := []string{}
	if p.Role != "" {
		about = append(about, clean(p.Role))
	}
	if p.Name != "" {
		about = append(about, strconv.Quote(p.Name))
	}
	if len(about) > 0 {
		text += " (" + strings.Join(about, " ") + ")"
	}
	if p.Via != "" {
		text += " by " + clean(p.Via)
	}
	w.peers[who] = text
	if text == before {
		return ""
	}
	return text
}

// message follows the calls. Candidates and an application's own messages are
// no news.
func (w *watch) message(now time.Time, room, from, to string, payload []byte) string {
	var m struct {
		Type, Session, Reason, To, About string
		Code                             int
	}
	if json.Unmarshal(payload, &m) != nil {
		return ""
	}
	if from == "_" && m.Type == "error" {
		return w.failed(room, to, m.To, m.Session, fmt.Sprintf("%d %s", m.Code, clean(m.Reason)), m.About)
	}
	if m.Session == "" {
		return ""
	}
	id := idOf(room, m.Session, from, to)
	c := w.calls[id]
	session := clean(m.Session)
	switch m.Type {
	case "start", "offer":
		if c == nil {
			w.open(&call{id: id, caller: from, callee: to, began: now})
		}
		return fmt.Sprintf("%s -> %s %s %s", from, to, m.Type, session)
	case "answer":
		if c == nil || !c.answered.IsZero() {
			return "" // began before we came, or a renegotiation
		}
		c.answered = now
		return fmt.Sprintf("%v set up in %d ms", c, now.Sub(c.began).Milliseconds())
	case "bye":
		if c == nil {
			return "" // both hung up: told once
		}
		w.end(c)
		return fmt.Sprintf("%v ended: %s%s", c, endOf(m.Reason, from), c.lasted(now))
	}
	return ""
}

// failed is the server's word to a peer that something did not arrive. A call
// that was set up may live on.
func (w *watch) failed(room, peer, other, session, what, about string) string {
	c := w.calls[idOf(room, session, peer, other)]
	switch {
	case c != nil && c.answered.IsZero():
		w.end(c)
		return fmt.Sprintf("call %s failed: %s", clean(session), what)
	case c == nil && about == "bye":
		return "" // hanging up on someone who is gone
	}
	text := fmt.Sprintf("%s is told: %s", peer, what)
	if about != "" {
		text += " (" + clean(about) + ")"
	}
	return text
}

func (w *watch) open(c *call) {
	w.calls[c.id] = c
	w.order = append(w.order, c)
	if len(w.calls) > maxCalls {
		for w.order[0].over {
			w.order = w.order[1:]
		}
		w.end(w.order[0])
	}
	if len(w.order) > 2*maxCalls { // mostly ended ones: sweep
		kept := make([]*call, 0, maxCalls)
		for _, c := range w.order {
			if !c.over {
				kept = append(kept, c)
			}
		}
		w.order = kept
	}
}

func (w *watch) end(c *call) {
	c.over = true
	delete(w.calls, c.id)
}

func (c *call) lasted(now time.Time) string {
	if c.answered.IsZero() {
		return " before an answer"
	}
	lasted := now.Sub(c.answered).Round(time.Second)
	if lasted < time.Minute {
		return fmt.Sprintf(" after %d s", int(lasted.Seconds()))
	}
	return " after " + lasted.String()
}

func endOf(reason, from string) string {
	switch reason {
	case "gone":
		return from + " is gone"
	case "":
		return "bye"
	}
	return clean(reason)
}

func idOf(room, session, a, b string) callID {
	return callID{room, session, min(a, b), max(a, b)}
}

// clean keeps what a peer wrote from playing tricks on the terminal.
func clean(text string) string {
	if len(text) > 64 {
		text = text[:64]
	}
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}
