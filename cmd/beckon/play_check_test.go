package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/beckon-rtc/beckon/topics"
)

func (p *play) check() {
	p.seen = slices.DeleteFunc(p.seen, func(what string) bool { return !p.watched && strings.HasPrefix(what, "message") })
	p.await(func() bool {
		p.eye.take()
		return inOrder(p.seen) == inOrder(p.eye.got)
	})
	p.same(p.eye.id, p.seen, p.eye.got)
	p.isView(p.eye, "")
	p.seen, p.eye.got = nil, nil
	for _, room := range roomsOfPlay {
		p.late.subscribe(p, room, "peers/+")
		p.late.unsubscribe(p, room, "peers/+")
	}
	p.await(func() bool {
		p.late.take()
		return p.view(p.late, "") == p.there(p.late, "")
	})
	p.isView(p.late, "")
	clear(p.late.view)
	for _, one := range p.parties {
		p.flush(one)
		one.take()
	}
	p.gone()
	for _, one := range p.parties {
		p.same(one.id, one.hears, one.got)
		one.hears, one.got = nil, nil
		if one.mind != nil {
			one.mind.check(p)
		}
		for _, room := range roomsOfPlay {
			if one.reads[room] {
				p.isView(one, room)
			} else {
				for at := range one.view {
					if at.room == room {
						delete(one.view, at)
					}
				}
			}
		}
	}
}

// gone sees off the connections that have ended.
func (p *play) gone() {
	p.parties = slices.DeleteFunc(p.parties, func(one *party) bool {
		if !one.over {
			if len(one.c.ended) > 0 {
				p.Fatalf("the server ended %s with %s", one.id, <-one.c.ended)
			}
			return false
		}
		want := map[topics.Code][2]string{topics.Replaced: {"0x8E", "4511"}, topics.Unauthorized: {"0x87", "4510"}, topics.Unavailable: {"0x8B", "4001"}}
		if code, ok := want[one.ended]; ok {
			one.c.t = p.tb
			one.c.isEnded(code[0], code[1])
			one.c.line.leave()
			if one.ended != topics.Unavailable {
				p.await(func() bool {
					one.take()
					return inOrder(one.hears) == inOrder(one.got)
				})
				p.same(one.id, one.hears, one.got)
			}
		}
		return true
	})
}

// take sorts what has come.
func (one *party) take() {
	for len(one.c.events) > 0 {
		e := <-one.c.events
		switch e.kind {
		case "presence":
			var is struct {
				Online    bool
				Name, Via string
			}
			text := ""
			if e.text != "" {
				_ = json.Unmarshal([]byte(e.text), &is)
				text = "offline"
			}
			if is.Online {
				text = "online by " + is.Via + " as " + is.Name
			}
			if one.view[place{e.room, e.from}] = text; text == "" {
				delete(one.view, place{e.room, e.from})
			}
			if one.id == "observer" {
				one.got = append(one.got, told("presence", e.from, e.room, text))
			}
		case "joined":
			one.got = append(one.got, "joined "+e.room)
		case "error":
			one.got = append(one.got, e.failure())
		case "goaway":
		default:
			one.got = append(one.got, told(e.kind, e.from, e.room, e.text))
		}
	}
}

// failure is an error in the words of the model.
func (e event) failure() string {
	var is struct {
		Code               topics.Code
		About, Session, To string
	}
	_ = json.Unmarshal([]byte(e.text), &is)
	return failure(e.room, is.Code, is.About, is.Session, is.To)
}

// isView demands that a client sees who is there, in a room or in all.
func (p *play) isView(one *party, room string) {
	if got, want := p.view(one, room), p.there(one, room); got != want {
		p.Fatalf("%s sees\n%s\nwant\n%s", one.id, got, want)
	}
}

// there is who is there, but for one itself; view is who it sees.
func (p *play) there(one *party, room string) string {
	var all []string
	for at, s := range p.stays {
		if (room == "" || at.room == room) && at.name != one.name {
			all = append(all, told("presence", at.name, at.room, s.shown))
		}
	}
	return inOrder(all)
}

func (p *play) view(one *party, room string) string {
	var all []string
	for at, text := range one.view {
		if (room == "" || at.room == room) && at.name != one.name {
			all = append(all, told("presence", at.name, at.room, text))
		}
	}
	return inOrder(all)
}

// same demands that all that was to be heard was heard, once, and what one peer
// said in its order.
func (p *play) same(who string, want, got []string) {
	if a, b := inOrder(want), inOrder(got); a != b {
		p.Fatalf("%s heard\n%s\nwant\n%s", who, b, a)
	}
}

// inOrder sorts by who says it, and keeps the order of what each says. Of the
// sessions that end with a peer, the byes come in any order.
func inOrder(heard []string) string {
	head := func(s string) string { head, _, _ := strings.Cut(s, ": "); return head }
	gone := func(s string) bool { return strings.HasSuffix(s, `"reason":"gone"}`) }
	heard = slices.Clone(heard)
	slices.SortStableFunc(heard, func(a, b string) int { return strings.Compare(head(a), head(b)) })
	for from := 0; from < len(heard); {
		to := from + 1
		for to < len(heard) && gone(heard[from]) && gone(heard[to]) && head(heard[to]) == head(heard[from]) {
			to++
		}
		slices.Sort(heard[from:to])
		from = to
	}
	return strings.Join(heard, "\n")
}
