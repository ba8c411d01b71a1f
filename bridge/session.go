package bridge

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// Config is what the sessions of a door have in common.
type Config struct {
	Connect      Connect
	Authenticate Authenticate
	Root         topics.Root   // as the bus has it
	Via          string        // the door: "ws" or "http"
	MaxRooms     int           // rooms of a session, 0: no limit
	Ping         time.Duration // how often the door pings, told in "joined"
	Logger       *slog.Logger

	// Refresh shows the bus a new token for a session that is open. Without it
	// clients are told that they cannot.
	Refresh func(context.Context, Bus, topics.Credentials) error
}

// Check reports everything that is wrong with c.
func (c *Config) Check() error {
	var wrong []error
	if c.Connect == nil {
		wrong = append(wrong, errors.New("there is no Connect: sessions need a bus"))
	}
	if c.Authenticate == nil {
		wrong = append(wrong, errors.New("there is no Authenticate: sessions need an identity"))
	}
	if c.MaxRooms < 0 {
		wrong = append(wrong, errors.New("MaxRooms is negative"))
	}
	if c.Logger == nil {
		wrong = append(wrong, errors.New("there is no Logger"))
	}
	return errors.Join(append(wrong, c.Root.Check())...)
}

// Client is the other side of a session, as its door knows it.
type Client struct {
	Credentials topics.Credentials // shown when it came; a token in its first join goes before
	Conn        uint64             // the connection's number, for the log

	// Out takes a frame, for good. It must neither block nor call the session
	// or the bus. An error means that it has no room for more.
	Out func(frame []byte) error

	// End is told, at most once and after the frames that explain it, why the
	// session cannot go on; the door closes the connection then. It must
	// neither block nor call the session or the bus.
	End func(why *topics.Error)
}

// Session is a client's stay on the bus: its identity and the rooms it joined.
type Session struct {
	cfg  *Config
	out  func([]byte) error
	stop func(*topics.Error)
	conn uint64

	remote       netip.Addr          // where the client is
	certificates []*x509.Certificate // it showed

	turn   sync.Mutex          // Receive and Close take turns; held while the bus is called
	shown  *topics.Credentials // until they were used
	id     topics.Identity
	bus    Bus // nil before the first join
	joined bool
	closed bool

	mu    sync.Mutex // taken by the inbox; never held while the bus is called
	rooms []room
	over  bool // the client is told nothing any more
}

// room is a room that the session is in, or on its way into.
type room struct {
	name    string
	joining *joining // nil once "joined" was said
}

// NewSession returns the session of a client that just came. The config must
// have been checked.
func NewSession(cfg *Config, c Client) *Session {
	return &Session{cfg: cfg, out: c.Out, stop: c.End, conn: c.Conn, shown: &c.Credentials,
		remote: c.Credentials.Remote, certificates: c.Credentials.TLS}
}

// Receive takes a frame from the client; its answers go to Out. The frame is
// the caller's again afterwards. The context is for the first join, which
// authenticates.
func (s *Session) Receive(ctx context.Context, text []byte) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed {
		return
	}
	f, err := readFrame(text)
	if err == nil {
		err = s.handle(ctx, &f)
	}
	s.answer(&f, err)
	if hopeless, ok := errors.AsType[ending](err); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.end(topics.AsError(hopeless))
	}
}

// Refuse answers a frame that the door did not take, with err. Of the frame it
// needs the beginning only, to find the id.
func (s *Session) Refuse(head []byte, err *topics.Error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed {
		return
	}
	f, _ := readFrame(whole(head))
	s.answer(&f, err)
}

// Joined reports whether a join has succeeded, if only in the past.
func (s *Session) Joined() bool {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.joined
}

// Peer is the name of the client's identity, "" before it has one.
func (s *Session) Peer() string {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.id.Name
}

// Close ends the session: of the client's own will, when it left, or since its
// connection was lost. The first call decides. Nothing goes to Out after it
// returned. It may be called at any time by any goroutine, not from Out or End.
func (s *Session) Close(left bool) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.bus != nil {
		s.bus.Close(left)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.rooms = true, nil
}

// handle does what f says. An answer of its own takes the id from f.
func (s *Session) handle(ctx context.Context, f *frame) error {
	switch f.kind {
	case typeJoin:
		return s.join(ctx, f)
	case typePing:
		s.send(pongFrame())
		return nil
	}
	if err := s.choose(f); err != nil {
		return err
	}
	switch f.kind {
	case typePresence:
		return s.presence(f)
	case typeLeave:
		return s.leave(f)
	case typeRefresh:
		return s.refresh(ctx, f)
	default:
		return s.message(f)
	}
}

// choose finds the room that f is about.
func (s *Session) choose(f *frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.rooms) == 0:
		return topics.Errorf(topics.Forbidden, "no room is joined; send join first")
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

func (s *Session) message(f *frame) error {
	a := topics.Address{Room: f.room, Kind: topics.All, Src: s.id.Name}
	if f.direct {
		a.Kind, a.Dst = topics.Direct, f.to
	}
	return s.bus.Publish(a, f.message())
}

func (s *Session) presence(f *frame) error {
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

func (s *Session) leave(f *frame) error {
	if err := s.bus.Publish(s.own(f.room), nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(f.room)
	return nil
}

// refreshTime is how long a new token may be looked at.
const refreshTime = 10 * time.Second

func (s *Session) refresh(ctx context.Context, f *frame) error {
	token, err := textOf("token", f.token)
	switch {
	case err != nil:
		return err
	case token == "":
		return topics.Errorf(topics.BadRequest, `refresh needs a "token"`)
	case s.cfg.Refresh == nil:
		return topics.Errorf(topics.Forbidden, "this server does not refresh tokens: connect again with the new one")
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	return s.cfg.Refresh(ctx, s.bus, topics.Credentials{Token: token, Name: s.id.Name, Remote: s.remote, TLS: s.certificates})
}

// own is where the client's presence in a room stands.
func (s *Session) own(room string) topics.Address {
	return topics.Address{Room: room, Kind: topics.Presence, Src: s.id.Name}
}

// answer tells the client how f went: "ok" if it wants to know, or the error.
func (s *Session) answer(f *frame, err error) {
	if err == nil {
		if f.id != nil {
			s.send(okFrame(f.id))
		}
		return
	}
	e, ok := errors.AsType[*topics.Error](err)
	if !ok {
		s.log(slog.LevelError, "a frame failed", f.room, "type", f.about().Type, "error", err)
		e = topics.AsError(err)
	}
	if e.About == "" {
		e = e.Of(f.about(), f.to)
	}
	s.send(errorFrame(f.room, f.id, e.Payload()))
}

// send hands a frame of the session's own to the door.
func (s *Session) send(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.must(frame)
}

// inbox takes what arrives from the bus.
func (s *Session) inbox(d topics.Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(d.Room)
	switch {
	case s.over:
		return errOver
	case r == nil && d.Room != "": // left, and the bus has yet to hear of it
		return nil
	case r != nil && r.joining != nil:
		r.joining.take(d, s.id.Name)
		return nil
	}
	return s.deliver(d)
}

var (
	errOver = topics.Errorf(topics.Offline, "the peer's connection is ending")
	errFull = topics.Errorf(topics.Busy, "too slow: more was waiting to be sent than the queue holds")
)

// deliver shows the client what arrived. The error is the sender's business.
func (s *Session) deliver(d topics.Delivery) error {
	switch {
	case d.Kind == topics.Presence && d.Src != s.id.Name:
		s.must(presenceFrame(d))
	case d.Kind == topics.Direct && d.Src == topics.Server:
		s.told(d)
	case d.Kind == topics.Direct, d.Kind == topics.All:
		return s.out(messageFrame(d))
	}
	return nil
}

// told shows the client what the server says to it.
func (s *Session) told(d topics.Delivery) {
	switch d.Type {
	case topics.TypeHello: // part of "joined", once
	case topics.TypeError:
		s.must(errorFrame(d.Room, nil, d.Payload))
		code, about := errorCode(d.Payload)
		switch {
		case d.Room == "": // about the connection: the bus has ended the session
			s.end(topics.Errorf(code, "the server ended the connection"))
		case code == topics.Replaced:
			s.forget(d.Room)
			s.log(slog.LevelInfo, "replaced by another connection", d.Room)
			if len(s.rooms) == 0 {
				s.end(topics.Errorf(topics.Replaced, "another connection of %s took over", s.id.Name))
			}
		case code == topics.Forbidden && !about: // not granted any more
			s.forget(d.Room)
		}
	default:
		s.must(messageFrame(d))
	}
}

// must hands a frame to the door that the client cannot do without.
func (s *Session) must(frame []byte) {
	if !s.over && s.out(frame) != nil {
		s.end(errFull)
	}
}

func (s *Session) end(why *topics.Error) {
	if !s.over {
		s.over = true
		s.stop(why)
	}
}

// find returns the room of that name, or nil. It is good until rooms change.
func (s *Session) find(name string) *room {
	for i := range s.rooms {
		if s.rooms[i].name == name {
			return &s.rooms[i]
		}
	}
	return nil
}

func (s *Session) forget(name string) {
	s.rooms = slices.DeleteFunc(s.rooms, func(r room) bool { return r.name == name })
}

func (s *Session) log(level slog.Level, what, room string, more ...any) {
	s.cfg.Logger.Log(context.Background(), level, what,
		append([]any{"conn", s.conn, "peer", s.id.Name, "room", room}, more...)...)
}
