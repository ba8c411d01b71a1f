package bridge

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
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

	// Resume is how long a client that says so may take to resume its session
	// after its connection was lost; 0: 30 s, negative: the grace of the bus, which
	// others have.
	Resume time.Duration

	// Queued is where the bytes are counted that clients were told and are not known
	// to have. Nil: nowhere.
	Queued *atomic.Int64

	// Queue is how much Out takes before anything of it is written: bytes of frames and
	// 48 for each, beyond which goes the last one only, and what Follows it. 0: any amount.
	Queue int

	// Renew gives the bus the newer identity, of the same name, that a client
	// resumed its session with. Without it the older one stays.
	Renew func(Bus, topics.Identity) error

	// Refresh shows the bus a new token for a session that is open. Without it
	// clients are told that they cannot.
	Refresh func(context.Context, Bus, topics.Credentials) error

	stays stays
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

// ErrEnding says that a connection takes no more frames, since it is ending. What
// it was given waits for the client to resume, or for the next connection.
var ErrEnding = errors.New("the connection is ending")

// ErrFull says that as much waits for a client as may.
var ErrFull = errors.New("the queue is full")

// Client is the other side of a session, as its door knows it.
type Client struct {
	Credentials topics.Credentials // shown when it came; a token in its first join goes before

	// Out takes a frame, for good. It must neither block nor call the session
	// or the bus. It returns [ErrFull] when it has no room for more, which a frame that
	// Follows needs none of, and [ErrEnding] when the connection is ending.
	Out func(Frame) error

	// End is told, at most once and after the frames that explain it, why the
	// session cannot go on; the door closes the connection then. It must
	// neither block nor call the session or the bus.
	End func(why *topics.Error)
}

// Session is what is said on one connection of a client. From its first join on it
// has a stay, which may outlive it.
type Session struct {
	cfg  *Config
	out  func(Frame) error
	end  func(*topics.Error)
	once sync.Once // of end

	remote       netip.Addr          // where the client is
	certificates []*x509.Certificate // it showed

	turn   sync.Mutex          // Receive and Close take turns; held while the bus is called
	shown  *topics.Credentials // until they were used
	found  *topics.Identity    // whose they are, while the join goes on
	stay   *stay               // nil before the first join, and when it is over or another's
	joined bool
	closed bool
	echoed bool   // a frame "error" was answered
	early  uint64 // frames that went out before there was a stay
	peer   string // for the log, as is
	conn   string // what the bus calls its stay, which others had or will have
}

// NewSession returns the session of a client that just came. The config must
// have been checked.
func NewSession(cfg *Config, c Client) *Session {
	return &Session{cfg: cfg, out: c.Out, end: c.End, shown: &c.Credentials,
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
		s.closed = true // a stay that it has all the same ends when the door closes it
		s.stop(topics.AsError(hopeless))
	}
}

// Join takes a join as Receive does, but returns what went wrong, an
// [*topics.Error], where Receive would tell Out.
func (s *Session) Join(ctx context.Context, text []byte) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed {
		return ErrEnding
	}
	f, err := readFrame(text)
	if err == nil && f.kind != typeJoin {
		err = topics.Errorf(topics.BadRequest, "a join is of type %q", typeJoin)
	}
	if err == nil {
		err = s.handle(ctx, &f)
	}
	if err == nil {
		return nil
	}
	if _, hopeless := errors.AsType[ending](err); hopeless {
		s.closed = true
	}
	return s.told(&f, err)
}

// Say sends a message that came another way than the client's frames, for by, who
// must be the client and may send no more than both it and the session may. The
// room of text may be left out; an id is not looked at. The error is an
// [*topics.Error], or [ErrEnding] when the client is in no room any more.
func (s *Session) Say(by topics.Identity, room string, text []byte) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	f, err := readFrame(text)
	switch {
	case err != nil:
	case s.closed, s.stay == nil:
		err = errNotJoined
	case f.room != "" && f.room != room:
		err = topics.Errorf(topics.BadRequest, `"room" is %s here, but the message was sent to %s`, f.room, room)
	default:
		f.room = room
		err = s.stay.say(by, &f)
	}
	switch {
	case err == errNotJoined:
		return ErrEnding
	case err != nil:
		return s.told(&f, err)
	}
	return nil
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

// Seen says that the client has got the first n frames that Out took. A door says so
// before long, for what is not known to have arrived is remembered, up to 2 MiB.
func (s *Session) Seen(n uint64) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.stay != nil {
		s.stay.seen(s, n)
	}
}

// Taken says that the client has most likely got the first n frames that Out took.
// It can still resume before them, but they are not given back to their senders.
func (s *Session) Taken(n uint64) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.stay != nil {
		s.stay.taken(s, n)
	}
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
	return s.peer
}

// Conn is what the log calls the client's time on the bus, "" before it has one.
func (s *Session) Conn() string {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.conn
}

// Remote is where the client is, for the log.
func (s *Session) Remote() netip.Addr { return s.remote }

// Close ends the session for good: of the client's own will, when it left, or for
// another reason, after which its peers have the grace. The first call of Close and
// Lost decides. Nothing goes to Out after it returned. It may be called at any time
// by any goroutine, not from Out or End.
func (s *Session) Close(left bool) {
	if stay := s.finish(); stay != nil {
		defer s.turn.Unlock()
		stay.close(left)
	}
}

// Lost ends the session since its connection was lost: for a while, the client can
// resume it on another.
func (s *Session) Lost() {
	if stay := s.finish(); stay != nil {
		defer s.turn.Unlock()
		stay.suspend()
	}
}

// finish ends what is said on this connection, and returns the stay, if there is
// one to be looked after, with s.turn held.
func (s *Session) finish() *stay {
	s.turn.Lock()
	stay := s.stay
	s.closed, s.stay = true, nil
	if stay == nil {
		s.turn.Unlock()
	}
	return stay
}

// handle does what f says. An answer of its own takes the id from f.
func (s *Session) handle(ctx context.Context, f *frame) error {
	switch f.kind {
	case typeJoin:
		err := s.join(ctx, f)
		if s.stay != nil {
			s.peer, s.conn = s.stay.name, s.stay.bus.Conn()
			s.joined = s.joined || err == nil
		}
		return err
	case typePing:
		s.send(pong)
		return nil
	}
	if s.stay == nil {
		return errNotJoined
	}
	if err := s.stay.choose(f); err != nil {
		return err
	}
	switch f.kind {
	case typePresence:
		return s.stay.presence(f)
	case typeLeave:
		return s.stay.leave(f)
	case typeRefresh:
		return s.refresh(ctx, f)
	default:
		return s.stay.message(f)
	}
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
	return s.cfg.Refresh(ctx, s.stay.bus, topics.Credentials{Token: token, Name: s.peer, Remote: s.remote, TLS: s.certificates})
}

// answer tells the client how f went: "ok" if it wants to know, or the error.
func (s *Session) answer(f *frame, err error) {
	if err == nil {
		if f.id != nil {
			s.send(okFrame(f.id))
		}
		return
	}
	e := *s.told(f, err)
	if f.kind == topics.TypeError {
		if s.echoed {
			return // who says again what it hears would be told of what it was told, for ever
		}
		s.echoed = true
		e.Message += "; this is said once on a connection"
	}
	s.send(errorFrame(f.room, f.id, e.Payload()))
}

// told is err as the client is told of it.
func (s *Session) told(f *frame, err error) *topics.Error {
	e, ok := errors.AsType[*topics.Error](err)
	if !ok {
		s.cfg.Logger.Error("a frame failed", "conn", s.conn, "peer", s.peer, "room", f.room, "type", f.about().Type, "error", err)
		e = topics.AsError(err)
	}
	if e.About == "" {
		e = e.Of(f.about(), f.to)
	}
	return e
}

// send hands a frame of the session's own to the door.
func (s *Session) send(frame []byte) {
	if s.stay != nil {
		s.stay.send(inOne(frame))
		return
	}
	s.early++
	if s.out(inOne(frame)) != nil {
		s.stop(errTooSlow)
	}
}

// stop has the door end the connection.
func (s *Session) stop(why *topics.Error) { s.once.Do(func() { s.end(why) }) }

// errTooSlow ends a connection that does not take what its client must know.
var errTooSlow = topics.Errorf(topics.Busy, "too slow: more was waiting to be sent than the queue holds")
