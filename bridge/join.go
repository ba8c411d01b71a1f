package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/beckon-rtc/beckon/topics"
)

// joining collects what arrives for a room while it is being joined.
type joining struct {
	hello []byte
	peers []topics.Delivery // who was there
	late  []topics.Delivery // what happened since
	size  int               // of that
	most  int               // before no more messages are taken
}

// maxLate is how much memory the messages take that a join takes, or half the queue of
// the connection: all of them follow the answer into it, however long that is.
const maxLate = 512 << 10

func (s *stay) newJoining() *joining {
	j := &joining{most: maxLate}
	if q := s.cfg.Queue / 2; q > 0 {
		j.most = min(j.most, q)
	}
	return j
}

func (j *joining) take(d topics.Delivery, me string) error {
	switch {
	case d.Retained:
		if d.Kind == topics.Presence && d.Src != me && len(d.Payload) > 0 {
			j.peers = append(j.peers, d)
		}
	case d.Kind == topics.Direct && d.Src == topics.Server && d.Type == topics.TypeHello:
		j.hello = d.Payload
	case j.size > j.most && d.Kind != topics.Presence && d.Src != topics.Server:
		return errTooSlow
	default:
		j.late = append(j.late, d)
		j.size += cost(Frame{Rest: d.Payload})
	}
	return nil
}

// giveBack takes out what is for the client alone, and not only for this connection.
func (j *joining) giveBack() (back []topics.Delivery) {
	j.late = slices.DeleteFunc(j.late, func(d topics.Delivery) bool {
		is := lasting(d)
		if is {
			back = append(back, d)
		}
		return is
	})
	return back
}

// lasting reports whether d is also for the next connection of the client: a message,
// or an error about one of its own.
func lasting(d topics.Delivery) bool {
	if d.Kind != topics.Direct || d.Src != topics.Server {
		return d.Kind == topics.Direct
	}
	_, about := errorCode(d.Payload)
	return d.Type == topics.TypeError && about
}

// join joins a room, or joins it anew. It answers with "joined", and undoes
// what it did when it fails.
func (s *Session) join(ctx context.Context, f *frame) error {
	payload, err := s.checkJoin(f)
	if err != nil {
		return err
	}
	wish, err := readWish(f)
	if err != nil {
		return err
	}
	if s.stay == nil && wish.key != "" {
		if resumed, err := s.resume(ctx, f, wish); resumed || err != nil {
			return err
		}
	}
	if err := s.identify(ctx, f); err != nil {
		return err
	}
	return s.stay.join(f, wish, payload)
}

// join joins a room with that presence, and tells the client.
func (s *stay) join(f *frame, wish wish, presence []byte) error {
	again, err := s.enter(f.room)
	if err != nil {
		return err
	}
	published := false
	if !again || f.presence != nil {
		err = s.bus.Publish(s.own(f.room), presence)
		published = err == nil
	}
	filters := s.bus.Identity().Filters(s.cfg.Root, f.room)
	if err == nil {
		err = s.bus.Subscribe(filters...)
	}
	if err == nil {
		s.arrive(f, wish, filters, again)
		return nil
	}
	if !s.turnBack(f.room, again) {
		return ending{err}
	}
	if published && !again {
		if err := s.bus.Publish(s.own(f.room), nil); err != nil {
			s.log(slog.LevelWarn, "the presence of a failed join stays", f.room, "error", err)
		}
	}
	if topics.AsError(err).Code == topics.Replaced {
		return ending{err} // while it joined: the bus takes nothing more from it
	}
	return err
}

// checkJoin says what is wrong with a join as such, and returns the presence.
func (s *Session) checkJoin(f *frame) ([]byte, error) {
	if f.room == "" {
		return nil, topics.Errorf(topics.BadRequest, `join needs a "room"`)
	}
	payload, online, err := presenceOf(f.presence)
	if err != nil {
		return nil, err
	}
	if !online {
		return nil, topics.Errorf(topics.BadRequest, `a join with "online":false is none`)
	}
	return payload, nil
}

// identify makes sure that the session has an identity and is on the bus, and
// that it is the peer that f says.
func (s *Session) identify(ctx context.Context, f *frame) error {
	peer, token, err := who(f)
	if err != nil {
		return err
	}
	if s.stay == nil {
		if err := s.connect(ctx, peer, token); err != nil {
			return ending{err}
		}
	}
	return checkPeer(s.stay.name, peer)
}

// who reads the members of a join that say who the client is.
func who(f *frame) (peer, token string, err error) {
	peer, err = textOf("peer", f.peer)
	if err == nil && f.peer != nil {
		err = topics.CheckName("peer", peer)
	}
	if err == nil {
		token, err = textOf("token", f.token)
	}
	return peer, token, err
}

// connect authenticates the client and opens its session on the bus.
func (s *Session) connect(ctx context.Context, peer, token string) error {
	if s.found == nil {
		id, err := s.authenticate(ctx, peer, token)
		if err != nil {
			return err
		}
		s.found = &id
	}
	id := *s.found
	if err := checkPeer(id.Name, peer); err != nil {
		return err
	}
	var err error
	stay := newStay(s, id.Name)
	if stay.bus, err = s.cfg.Connect(id, s.cfg.Via, stay); err != nil {
		return err
	}
	s.cfg.stays.add(stay)
	s.stay, s.shown, s.found = stay, nil, nil
	return nil
}

// authenticate finds out who the client is, that would like that name.
func (s *Session) authenticate(ctx context.Context, name, token string) (topics.Identity, error) {
	c := *s.shown
	c.Name = name
	if token != "" {
		c.Token = token
	}
	id, err := s.cfg.Authenticate(ctx, c)
	if errors.Is(err, context.DeadlineExceeded) {
		err = topics.Errorf(topics.Timeout, "the credentials could not be checked in time; try again")
	}
	if err == nil && !topics.ValidName(id.Name) {
		err = fmt.Errorf("authenticate gave an identity without a valid name: %q", id.Name)
	}
	return id, err
}

func checkPeer(name, peer string) error {
	if peer != "" && peer != name {
		return topics.Errorf(topics.Forbidden, `this connection is %s and cannot be %s; leave "peer" out`, name, peer)
	}
	return nil
}

// enter marks room as being joined. It reports whether it was joined before.
func (s *stay) enter(name string) (again bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.find(name); r != nil {
		r.joining = s.newJoining()
		return true, nil
	}
	if s.cfg.MaxRooms > 0 && len(s.rooms) >= s.cfg.MaxRooms {
		return false, topics.Errorf(topics.Busy, "%d rooms are joined, a connection can be in %d", len(s.rooms), s.cfg.MaxRooms)
	}
	s.rooms = append(s.rooms, room{name: name, joining: s.newJoining()})
	return false, nil
}

// arrive tells the client that it is in the room, then what happened meanwhile.
func (s *stay) arrive(f *frame, wish wish, filters []string, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(f.room)
	j := r.joining
	r.filters, r.joining = filters, nil
	s.long = s.long || wish.long
	s.must(inOne(joinedFrame(f.id, f.room, s.name, s.key, wish.key != "", j, int(s.cfg.Ping.Seconds()))))
	f.id = nil // answered
	if !again {
		s.log(slog.LevelDebug, "joined", f.room)
	}
	s.catchUp(j)
}

// turnBack forgets a room that could not be joined; one that was joined before
// stays so. It reports whether the stay can go on: a message that was taken already
// only the end of the connection gives back.
func (s *stay) turnBack(name string, again bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(name)
	switch {
	case again:
		j := r.joining
		r.joining = nil
		s.catchUp(j)
	case slices.ContainsFunc(r.joining.late, lasting):
		return false
	default:
		s.forget(name)
	}
	return true
}

// catchUp delivers what was put off. Its senders were told that it arrived.
func (s *stay) catchUp(j *joining) {
	s.late = true
	defer func() { s.late = false }()
	for _, d := range j.late {
		if s.find(d.Room) != nil && s.deliver(d) != nil {
			s.told.add(messageFrame(d)) // for the next connection
			s.end(errTooSlow)
		}
	}
}

// ending is an error after which the connection is of no use.
type ending struct{ error }

func (e ending) Unwrap() error { return e.error }
