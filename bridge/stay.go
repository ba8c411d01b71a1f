package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/beckon-rtc/beckon/topics"
)

// stay is a client's time on the bus: its name, the rooms it joined, and what
// it was told. It has one connection after the other; while it has none, what is
// for the client waits on the bus.
//
// Whoever has it ends it: the session of its connection, the bus while it is
// suspended, and a session that claimed it, on every way out but the one on which it
// becomes its connection.
//
//	               Lost             too late
//	+-> connection ----> suspended ----------> over
//	|     |    |             |
//	|     |    | yield       | Resume
//	|     |    +--> claimed <+
//	|     |           |   |
//	|     | Close     |   | refused
//	|     +-----------+---+------------------> closed
//	|     attach      |
//	+-----------------+
type stay struct {
	cfg  *Config
	name string // of its identity, which the bus has
	bus  Bus
	key  string // by which it is resumed

	mu    sync.Mutex // taken by the inbox; never held while the bus is called
	rooms []room
	long  bool // the client said that it resumes its session
	over  bool // this connection is told nothing more
	late  bool // what the client is told now was accepted while it joined

	by      *Session // the connection it has, or is being taken from; nil while it is suspended
	claimed bool     // somebody is about to resume it
	told    history
	base    uint64 // number of the frame before the first one of by; it may be "negative"
}

// room is a room that the stay is in, or on its way into.
type room struct {
	name    string
	filters []string // what the client may read in it, since "joined"
	joining *joining // nil once "joined" was said
}

func newStay(s *Session, name string) *stay {
	return &stay{cfg: s.cfg, name: name, key: rand.Text(), by: s, told: history{last: s.early, all: s.cfg.Queued}}
}

var errNotJoined = topics.Errorf(topics.Forbidden, "no room is joined; send join first")

// choose finds the room that f is about.
func (s *stay) choose(f *frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.rooms) == 0:
		return errNotJoined
	case f.kind == typeRefresh:
		return nil
	case f.room != "" && s.find(f.room) == nil:
		return topics.Errorf(topics.Forbidden, "room %s is not joined", f.room)
	case f.room == "" && len(s.rooms) > 1:
		return topics.Errorf(topics.BadRequest, `%d rooms are joined, so the frame must say which with "room"`, len(s.rooms))
	case f.room == "":
		f.room = s.rooms[0].name
	}
	return nil
}

func (s *stay) message(f *frame) error { return s.bus.Say(s.address(f), f.said) }

// say is message, for by.
func (s *stay) say(by topics.Identity, f *frame) error {
	if err := s.choose(f); err != nil {
		return err
	}
	a := s.address(f)
	if !by.MayPublish(a) { // the bus asks the same of the session's own
		return topics.Errorf(topics.Forbidden, "%s may not send that in %s", by.Name, f.room)
	}
	return s.bus.Say(a, f.said)
}

// address is where the message in f goes.
func (s *stay) address(f *frame) topics.Address {
	a := topics.Address{Room: f.room, Kind: topics.All, Src: s.name}
	if f.direct {
		a.Kind, a.Dst = topics.Direct, f.to
	}
	return a
}

func (s *stay) presence(f *frame) error {
	if f.presence == nil {
		return topics.Errorf(topics.BadRequest, `a presence frame needs a "presence"`)
	}
	payload, online, err := presenceOf(f.presence)
	if err != nil {
		return err
	}
	if !online {
		return s.leave(f)
	}
	return s.bus.Publish(s.own(f.room), payload)
}

func (s *stay) leave(f *frame) error {
	if err := s.bus.Publish(s.own(f.room), nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(f.room)
	return nil
}

// own is where the client's presence in a room stands.
func (s *stay) own(room string) topics.Address {
	return topics.Address{Room: room, Kind: topics.Presence, Src: s.name}
}

// send tells the client what it must know.
func (s *stay) send(frame Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.must(frame)
}

// Take takes what arrives from the bus.
func (s *stay) Take(d topics.Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(d.Room)
	switch {
	case s.over:
		if s.by != nil && d.Src == topics.Server && lasting(d) { // nobody would say it again
			s.must(inOne(errorFrame(d.Room, nil, d.Payload)))
			return nil
		}
		return errOver
	case r == nil && d.Room != "": // left, and the bus has yet to hear of it
		return errOver
	case r != nil && r.joining != nil:
		return r.joining.take(d, s.name)
	}
	return s.deliver(d)
}

var errOver = topics.Errorf(topics.Offline, "the peer's connection is ending")

// deliver shows the client what arrived. The error is the sender's business.
func (s *stay) deliver(d topics.Delivery) error {
	switch {
	case d.Kind == topics.Presence && d.Src != s.name:
		s.must(inOne(presenceFrame(d)))
	case d.Kind == topics.Direct && d.Src == topics.Server:
		s.hear(d)
	case d.Kind == topics.Direct, d.Kind == topics.All:
		return s.tell(messageFrame(d))
	}
	return nil
}

// hear shows the client what the server says to it.
func (s *stay) hear(d topics.Delivery) {
	switch d.Type {
	case topics.TypeHello: // part of "joined", once
	case topics.TypeError:
		s.must(inOne(errorFrame(d.Room, nil, d.Payload)))
		code, about := errorCode(d.Payload)
		switch {
		case d.Room == "": // about the connection: the bus has ended the session
			s.end(topics.Errorf(code, "the server ended the connection"))
		case code == topics.Replaced:
			s.forget(d.Room)
			s.log(slog.LevelInfo, "replaced by another connection", d.Room)
			if len(s.rooms) == 0 {
				s.end(topics.Errorf(topics.Replaced, "another connection of %s took over", s.name))
			}
		case code == topics.Forbidden && !about: // not granted any more
			s.forget(d.Room)
			s.told.blank(d.Room)
		}
	default:
		s.must(messageFrame(d))
	}
}

// tell hands a frame to the connection, and remembers it until the client has it.
// Without a connection the client gets it when it resumes.
func (s *stay) tell(frame Frame) error {
	if s.by != nil {
		out := frame
		if out.Follows = s.late; !s.late && s.told.full() {
			return errTooSlow
		}
		if err := s.by.out(out); err != nil && !errors.Is(err, ErrEnding) {
			return err
		}
	}
	s.told.add(frame)
	return nil
}

// must tells the client what it cannot do without. When it does not fit the
// connection ends, and the next one has it.
func (s *stay) must(frame Frame) {
	switch {
	case s.over && s.by == nil:
	case s.over:
		s.told.add(frame)
	case s.tell(frame) != nil:
		s.told.add(frame)
		s.end(errTooSlow)
	}
}

func (s *stay) end(why *topics.Error) {
	if s.over {
		return
	}
	s.over = true
	s.cfg.stays.remove(s)
	if s.by == nil { // the bus has taken back what it wants
		s.told.forget(len(s.told.frames))
		return
	}
	s.by.stop(why)
}

// close ends the stay on the bus.
func (s *stay) close(left bool) {
	s.bus.Close(left) // it may take back what the client did not get
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.forget(len(s.told.frames))
	s.over, s.by, s.rooms = true, nil, nil
	s.cfg.stays.remove(s)
}

// find returns the room of that name, or nil. It is good until rooms change.
func (s *stay) find(name string) *room {
	for i := range s.rooms {
		if s.rooms[i].name == name {
			return &s.rooms[i]
		}
	}
	return nil
}

func (s *stay) forget(name string) {
	s.rooms = slices.DeleteFunc(s.rooms, func(r room) bool { return r.name == name })
}

func (s *stay) log(level slog.Level, what, room string, more ...any) {
	about := []any{"conn", s.bus.Conn(), "peer", s.name, "room", room}
	s.cfg.Logger.Log(context.Background(), level, what, append(about, more...)...)
}
