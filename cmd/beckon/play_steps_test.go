package main

import (
	"fmt"
	"slices"
	"time"

	paho3 "github.com/eclipse/paho.mqtt.golang"
	"pgregory.net/rapid"

	"github.com/beckon-rtc/beckon/topics"
)

// steps are those that a server takes on fake time or not.
func (p *play) steps() map[string]func() {
	return map[string]func(){
		"arrive": p.arrive, "come": p.arrive, "join": p.joinAgain, "part": p.leaveRoom, "leave": p.leave, "cut": p.cut, "be cut": p.cut,
		"write": p.write, "call": p.write, "ring": p.write, "tell": p.write, "all": p.toAll,
		"resume": p.resume, "go on": p.resume, "prove": p.prove, "restart": p.startAnew,
	}
}

func (p *play) repeat(steps map[string]func()) {
	actions := map[string]func(*rapid.T){"": func(*rapid.T) { p.check() }}
	for name, step := range steps {
		actions[name] = func(*rapid.T) {
			time.Sleep(time.Millisecond) // so that no two things end at the same time
			p.pass(time.Now())
			step()
			p.await(func() bool { return true })
			p.pass(time.Now())
		}
	}
	p.Repeat(actions)
}

func pick[E any](p *play, what string, from []E) E {
	if len(from) == 0 {
		p.Skip("nobody is there")
	}
	return from[rapid.IntRange(0, len(from)-1).Draw(p.T, what)]
}

// roomOf picks a room where one is, most of the time.
func (p *play) roomOf(one *party) string {
	var in []string
	for _, room := range roomsOfPlay {
		if s := p.stays[place{room, one.name}]; s != nil && s.link == one.link {
			in = append(in, room)
		}
	}
	if len(in) == 0 || rapid.IntRange(0, 7).Draw(p.T, "anywhere") == 7 {
		in = roomsOfPlay
	}
	return pick(p, "room", in)
}

func (p *play) room() string { return pick(p, "room", roomsOfPlay) }

// somewhere picks a place; one for whom messages wait, or one who said them, is
// picked more often, since more depends on it.
func (p *play) somewhere(sender bool) place {
	var all []place
	for _, room := range roomsOfPlay {
		for _, name := range namesOfPlay {
			all = append(all, place{room, name})
		}
	}
	for _, s := range p.sorted() {
		for _, n := range s.waiting {
			at := s.place
			if sender && n.by != nil {
				at.name = n.src
			}
			all = append(all, at, at)
		}
	}
	return pick(p, "place", all)
}

func (p *play) arrive() {
	at := p.somewhere(false)
	p.arriveAs(at.name, at.room)
}

func (p *play) arriveAs(name, room string) {
	at := pick(p, "door", p.doors)
	mute := at.protocol != "MQTT 5" && rapid.Bool().Draw(p.T, "mute")
	one := p.newcomer(name, at, mute)
	switch {
	case at.protocol == "JSON":
		one.long = rapid.Bool().Draw(p.T, "long")
		one.mind = &mind{mute: mute || p.patient}
		p.say("%s connects by %v; it proves nothing: %v; it says that it resumes: %v", one.id, at, one.mind.mute, one.long)
		one.c = p.clientJSON(one)
	case mute:
		p.say("%s connects by %v, and acknowledges nothing", one.id, at)
		one.c = p.client(name, at, func(o *paho3.ClientOptions) { o.SetAutoAckDisabled(true) })
	default:
		p.say("%s connects by %v", one.id, at)
		one.c = p.site.connect(p.tb, at, name)
	}
	p.parties = append(p.parties, one)
	p.enter(one, room)
	p.stayOrGo(one)
}

func (p *play) newcomer(name string, at entrance, mute bool) *party {
	p.met++
	return &party{link: p.connect(fmt.Sprintf("%s#%d", name, p.met), name, at, mute), view: map[place]string{}}
}

// stayOrGo lets a client of JSON that came in vain leave. It would be asked to, in
// 10 s.
func (p *play) stayOrGo(one *party) {
	if one.json() && len(one.reads) == 0 {
		one.c.line.leave()
		p.end(one.link, true)
	}
}

func (p *play) joinAgain() { p.enter(pick(p, "who", p.parties), p.room()) }

func (p *play) enter(one *party, room string) {
	p.say("%s joins %s", one.id, room)
	err := one.c.line.join(room)
	if may := p.join(one.link, room); may != (err == nil) {
		p.Fatalf("%s joins %s: %v; it may: %v", one.id, room, err, may)
	}
}

func (p *play) leaveRoom() {
	one := pick(p, "who", p.parties)
	room := p.roomOf(one)
	if !p.may[place{room, one.name}] {
		p.Skip("refused, like a join")
	}
	p.say("%s parts from %s", one.id, room)
	_ = one.c.line.part(room)
	p.part(one.link, room)
}

func (p *play) leave() {
	one := pick(p, "who", p.parties)
	p.say("%s leaves", one.id)
	one.c.line.leave()
	p.end(one.link, true)
}

func (p *play) cut() {
	one := pick(p, "who", p.parties)
	p.say("%s is cut", one.id)
	p.cutOff(p, one)
	p.end(one.link, false)
	if one.lost {
		p.parties = slices.DeleteFunc(p.parties, func(o *party) bool { return o == one })
		p.absent = append(p.absent, one)
	}
}

// write says a few things to one peer.
func (p *play) write() {
	one := pick(p, "who", p.parties)
	room := p.roomOf(one)
	others := slices.DeleteFunc(slices.Clone(namesOfPlay), func(n string) bool { return n == one.name })
	dst := pick(p, "to", slices.Concat(others, others, others, []string{"nobody"}))
	for range rapid.IntRange(1, 3).Draw(p.T, "messages") {
		p.writeTo(one, room, dst)
	}
}

func (p *play) writeTo(one *party, room, dst string) {
	kind := pick(p, "kind", []string{"msg", "start", "offer", "offer", "answer", "candidate", "bye", "bye"})
	p.said++
	session, text := "", fmt.Sprintf(`{"type":"x-%d"}`, p.said)
	if kind == "msg" {
		kind = fmt.Sprintf("x-%d", p.said)
	} else {
		session = pick(p, "session", []string{"k1", "k2"})
		text = fmt.Sprintf(`{"type":%q,"session":%q,"n":%d}`, kind, session, p.said)
	}
	p.say("%s says to %s in %s: %s", one.id, dst, room, text)
	fate, err := one.c.line.send(room, dst, text)
	if err != nil && fate == 0 {
		p.Fatalf("%s cannot send: %v", one.id, err)
	}
	p.fate(one, fate, p.send(one.link, room, dst, kind, session, text))
}

// fate is what the answer to a message must be.
func (p *play) fate(one *party, got int, code topics.Code) {
	want := int(code)
	if !one.json() {
		want = 0
		if code != 0 && one.at.protocol == "MQTT 5" {
			want = int(code.MQTT())
		}
	}
	if got != want {
		p.Fatalf("%s was answered %#x, want %#x for %d", one.id, got, want, code)
	}
}

func (p *play) toAll() {
	one := pick(p, "who", p.parties)
	room := p.roomOf(one)
	p.said++
	kind := fmt.Sprintf("x-%d", p.said)
	text := fmt.Sprintf(`{"type":%q}`, kind)
	p.say("%s says to all in %s: %s", one.id, room, text)
	fate, err := one.c.line.send(room, "", text)
	if err != nil && fate == 0 {
		p.Fatalf("%s cannot send: %v", one.id, err)
	}
	p.fate(one, fate, p.sayAll(one.link, room, kind, text))
}

func (p *play) wait() {
	d := time.Duration(pick(p, "seconds", []int{1, 1, 4, 5, 14, 15})) * time.Second
	p.say("%v go by", d)
	time.Sleep(d)
}

func (p *play) regrant() {
	at := p.somewhere(true)
	p.say("%s may be in %s: %v", at.name, at.room, !p.may[at])
	p.grant(at, !p.may[at])
	p.stage.(*pipes).know(p.may, "")
}

func (p *play) takeAccount() {
	name := pick(p, "name", namesOfPlay)
	p.say("%s is revoked, and known again", name)
	p.stage.(*pipes).know(p.may, name)
	p.stage.(*pipes).know(p.may, "")
	p.revoke(name)
}

func (p *play) startAnew() {
	if rapid.IntRange(0, 2).Draw(p.T, "restart") > 0 {
		p.Skip("not so often")
	}
	p.say("the server restarts")
	p.check()
	p.stop()
	p.restart()
	for _, one := range append(p.parties, p.eye) {
		one.take()
		p.same(one.id, nil, one.got)
	}
	p.gone()
	p.openDoors()
	p.gather()
}
