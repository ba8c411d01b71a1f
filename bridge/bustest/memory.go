package bustest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// Memory is a bus in memory: rooms in a map behind one lock. It holds nothing
// for a peer that is away for longer than the grace. The zero value has the
// default root, no grace and a limit of 64 KiB.
type Memory struct {
	Root  topics.Root
	Grace time.Duration // that a lost connection has to come back
	Max   int           // bytes of the longest message

	mu       sync.Mutex
	rooms    map[string]map[string]*peer
	sessions []*session
	count    int // of sessions so far
}

// peer is someone known in a room.
type peer struct {
	room, name string
	device     bool
	by         *session // nil while it is away
	reachable  bool     // its inbox is subscribed
	lost       *time.Timer
	presence   []byte
	max        int
	held       []topics.Delivery
	calls      map[call]bool
}

// call is a session of a call, as one end sees it.
type call struct{ other, session string }

// session is a bridge.Bus.
type session struct {
	m       *Memory
	id      topics.Identity
	via     string
	name    string
	inbox   bridge.Inbox
	filters []string
	parsed  []topics.Filter
	closed  bool
	lost    *time.Timer // runs while it is suspended
	missed  []topics.Delivery
	gap     bool // it missed more than is kept
}

// maxMissed is how much waits for a session to be resumed.
const maxMissed = 256

// Connect is a bridge.Connect.
func (m *Memory) Connect(id topics.Identity, via string, inbox bridge.Inbox) (bridge.Bus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &session{m: m, id: id, via: via, inbox: inbox}
	m.sessions = append(m.sessions, s)
	m.count++
	s.name = fmt.Sprintf("%.1s%d", via, m.count)
	return s, nil
}

func (m *Memory) root() topics.Root {
	if m.Root == "" {
		return topics.DefaultRoot
	}
	return m.Root
}

func (m *Memory) max() int {
	if m.Max == 0 {
		return 64 << 10
	}
	return m.Max
}

// Identity is what it was connected as: nothing is granted later.
func (s *session) Identity() topics.Identity { return s.id }

// Conn is "w1" of the first session of the door "ws".
func (s *session) Conn() string { return s.name }

func (s *session) Publish(a topics.Address, payload []byte) error {
	said, _ := topics.Read(payload, nil)
	return s.publish(a, payload, &said)
}

func (s *session) Say(a topics.Address, said topics.Reading) error {
	return s.publish(a, said.Text(), &said)
}

func (s *session) publish(a topics.Address, payload []byte, said *topics.Reading) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	switch {
	case s.closed:
		return topics.Errorf(topics.Unavailable, "the session is closed")
	case !s.id.MayPublish(a):
		return topics.Errorf(topics.Forbidden, "%s may not publish to %s", s.id.Name, s.m.root().Topic(a))
	case a.Kind == topics.Presence:
		return s.m.publishPresence(s, a, payload)
	case len(payload) > s.m.max():
		return topics.Errorf(topics.TooLarge, "%d bytes are more than %d", len(payload), s.m.max())
	}
	msg, err := said.Check(a)
	if err != nil {
		return err
	}
	if err := s.m.publish(s, topics.Delivery{Address: a, Payload: payload, Message: msg}); err != nil {
		return topics.AsError(err).Of(msg, a.Dst)
	}
	return nil
}

func (s *session) Subscribe(filters ...string) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.closed {
		return topics.Errorf(topics.Unavailable, "the session is closed")
	}
	for _, filter := range filters {
		f, err := s.m.root().ParseFilter(filter)
		if err != nil {
			return err
		}
		if !s.id.MaySubscribe(f) {
			return topics.Errorf(topics.Forbidden, "%s may not subscribe to %s", s.id.Name, filter)
		}
		if !slices.Contains(s.filters, filter) {
			s.filters, s.parsed = append(s.filters, filter), append(s.parsed, f)
		}
		if f.Inbox() == s.id.Name && s.id.MayJoin(f.Room()) {
			s.m.open(s, f.Room())
		}
		s.m.retained(s, f)
	}
	return nil
}

func (s *session) Close(left bool) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.close(left)
}

func (s *session) close(left bool) {
	if s.closed {
		return
	}
	s.closed = true
	if s.lost != nil {
		s.lost.Stop()
	}
	s.m.sessions = slices.DeleteFunc(s.m.sessions, func(o *session) bool { return o == s })
	for _, room := range s.m.rooms {
		for _, p := range room {
			if p.by != s {
				continue
			}
			p.held = append(p.held, s.back(p.room)...)
			p.by, p.reachable = nil, false
			if left {
				s.m.gone(p, p.device)
				continue
			}
			p.lost = time.AfterFunc(s.m.Grace, func() { s.m.expire(p) })
		}
	}
}

func (s *session) Suspend(most time.Duration) {
	if most == 0 {
		most = s.m.Grace
	}
	if most < 0 {
		s.forsake()
		return
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.closed {
		return
	}
	s.lost = time.AfterFunc(most, s.forsake)
}

// forsake ends a session that was not resumed in time.
func (s *session) forsake() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.closed {
		return
	}
	s.close(true)
	gone := topics.Errorf(topics.Offline, "not resumed in time")
	_ = s.inbox.Take(topics.Delivery{Address: topics.Address{Kind: topics.Direct, Src: topics.Server},
		Message: topics.Message{Type: topics.TypeError}, Payload: gone.Payload()})
}

func (s *session) Resume() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.closed || s.lost == nil || !s.lost.Stop() {
		return topics.Errorf(topics.Offline, "not resumed in time")
	}
	s.lost = nil
	if s.gap {
		return topics.Errorf(topics.Offline, "missed too much")
	}
	for _, d := range s.missed {
		_ = s.inbox.Take(d)
	}
	s.missed = nil
	return nil
}

// back is what the client has not got in a room, and is for it alone: what was said
// to it, and what became of what it said.
func (s *session) back(room string) []topics.Delivery {
	all := s.inbox.Back(room)
	for _, d := range s.missed {
		if d.Room == room && d.Kind == topics.Direct && (d.Src != topics.Server || bytes.Contains(d.Payload, []byte(`"about":`))) {
			all = append(all, d)
		}
	}
	return all
}

// take hands d to the door, or has it wait for the client.
func (s *session) take(d topics.Delivery) error {
	if s.lost == nil {
		return s.inbox.Take(d)
	}
	if len(s.missed) < maxMissed {
		s.missed = append(s.missed, d)
	} else {
		s.gap = true
	}
	return nil
}

// expire ends the grace of a peer that did not come back.
func (m *Memory) expire(p *peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.by == nil && m.rooms[p.room][p.name] == p && !m.offline(p) {
		m.gone(p, p.device)
	}
}

func (m *Memory) offline(p *peer) bool { return string(p.presence) == topics.PresenceOffline }

// gone ends what a peer had; a device stays listed.
func (m *Memory) gone(p *peer, listed bool) {
	for c := range p.calls {
		if other := m.rooms[p.room][c.other]; other != nil {
			delete(other.calls, call{p.name, c.session})
			a := topics.Address{Room: p.room, Kind: topics.Direct, Dst: c.other, Src: p.name}
			m.hand(other, topics.Delivery{Address: a, Payload: topics.Bye(c.session), Message: topics.Message{Type: topics.TypeBye, Session: c.session}})
		}
	}
	for _, d := range p.held {
		m.tell(p, d, topics.Offline)
	}
	p.calls, p.held, p.presence = nil, nil, nil
	if listed {
		p.presence = []byte(topics.PresenceOffline)
	} else {
		delete(m.rooms[p.room], p.name)
	}
	m.announce(p)
}

// tell tells the sender of d that p did not get it.
func (m *Memory) tell(p *peer, d topics.Delivery, why topics.Code) {
	if from := m.rooms[p.room][d.Src]; from != nil {
		m.say(from, topics.Errorf(why, "%s is %s", p.name, why.Reason()).Of(d.Message, p.name).Payload(), topics.TypeError)
	}
}

// own returns the peer of s in a room, made or taken over.
func (m *Memory) own(s *session, room string) (p *peer, fresh bool) {
	if m.rooms == nil {
		m.rooms = map[string]map[string]*peer{}
	}
	if m.rooms[room] == nil {
		m.rooms[room] = map[string]*peer{}
	}
	p = m.rooms[room][s.id.Name]
	if p == nil {
		p = &peer{room: room, name: s.id.Name, device: s.id.Device}
		m.rooms[room][p.name] = p
	}
	if p.by == s {
		return p, false
	}
	if p.lost != nil {
		p.lost.Stop()
	}
	if p.by != nil {
		p.held = append(p.held, p.by.back(room)...)
		m.say(p, topics.Errorf(topics.Replaced, "another connection took over").Payload(), topics.TypeError)
		p.by.forget(room)
	}
	p.by, p.reachable, p.max = s, false, 0
	return p, true
}

// forget unsubscribes s from a room.
func (s *session) forget(room string) {
	inRoom := func(f topics.Filter) bool { return f.Room() == room }
	s.filters = slices.DeleteFunc(s.filters, func(f string) bool {
		parsed, _ := s.m.root().ParseFilter(f)
		return inRoom(parsed)
	})
	s.parsed = slices.DeleteFunc(s.parsed, inRoom)
}

func (m *Memory) publishPresence(s *session, a topics.Address, payload []byte) error {
	status, err := topics.CheckPresence(payload)
	if err != nil {
		return err
	}
	if !status.Online {
		if p := m.rooms[a.Room][a.Src]; p != nil && p.by == s {
			p.by, p.reachable = nil, false
			s.forget(a.Room)
			m.gone(p, p.device)
		}
		return nil
	}
	p, _ := m.own(s, a.Room)
	p.max = status.Max
	p.presence = topics.Announce(payload, time.Now().Unix(), s.via)
	m.announce(p)
	return nil
}

// open makes the peer of s reachable: it subscribed to its inbox.
func (m *Memory) open(s *session, room string) {
	p, fresh := m.own(s, room)
	if fresh {
		p.presence = topics.Announce([]byte(topics.PresenceOnline), time.Now().Unix(), s.via)
		m.announce(p)
	}
	hello := topics.Hello{Type: topics.TypeHello, Room: room, Peer: p.name, TTL: 3600, Max: m.max(),
		ICEServers: []topics.ICEServer{{URLs: []string{"stun:stun.example"}}}}
	p.reachable = true
	m.say(p, hello.Payload(), topics.TypeHello)
	held := p.held
	p.held = nil
	for _, d := range held {
		if m.hand(p, d) != nil {
			m.tell(p, d, topics.Busy)
		}
	}
}

func (m *Memory) publish(s *session, d topics.Delivery) error {
	from := m.rooms[d.Room][d.Src]
	if from == nil || from.by != s {
		return topics.Errorf(topics.Forbidden, "%s is not in %s", d.Src, d.Room)
	}
	if d.Kind == topics.All {
		return m.toAll(s, d)
	}
	if d.Dst == topics.Server {
		if d.Type != topics.TypeICE {
			return topics.Errorf(topics.BadRequest, "the server takes ice only")
		}
		m.say(from, topics.Hello{Type: topics.TypeICE, TTL: 3600}.Payload(), topics.TypeICE)
		return nil
	}
	to := m.rooms[d.Room][d.Dst]
	switch {
	case to == nil:
		return topics.Errorf(topics.NotFound, "%s is not known in %s", d.Dst, d.Room)
	case to.by == nil && m.offline(to):
		return topics.Errorf(topics.Offline, "%s is offline in %s", d.Dst, d.Room)
	case to.max > 0 && len(d.Payload) > to.max:
		return topics.Errorf(topics.TooLarge, "%s takes %d bytes", d.Dst, to.max)
	}
	if err := m.hand(to, d); err != nil {
		return topics.Errorf(topics.Busy, "%s: %v", d.Dst, err)
	}
	from.track(d, d.Dst)
	to.track(d, d.Src)
	return nil
}

func (p *peer) track(d topics.Delivery, other string) {
	c := call{other, d.Session}
	if d.Ends() {
		delete(p.calls, c)
	}
	if d.Opens() {
		if p.calls == nil {
			p.calls = map[call]bool{}
		}
		p.calls[c] = true
	}
}

func (m *Memory) toAll(from *session, d topics.Delivery) error {
	var first error
	m.reach(d, func(s *session) {
		if s != from {
			if err := s.take(d); err != nil && first == nil {
				first = topics.Errorf(topics.Busy, "%s: %v", s.id.Name, err)
			}
		}
	})
	return first
}

// hand gives d to p, or holds it.
func (m *Memory) hand(p *peer, d topics.Delivery) error {
	if !p.reachable {
		p.held = append(p.held, d)
		return nil
	}
	err := p.by.take(d)
	if err != nil && topics.AsError(err).Code == topics.Offline {
		p.held = append(p.held, d)
		return nil
	}
	return err
}

// say is the server speaking to p.
func (m *Memory) say(p *peer, payload []byte, kind string) {
	if p.reachable {
		a := topics.Address{Room: p.room, Kind: topics.Direct, Dst: p.name, Src: topics.Server}
		_ = p.by.take(topics.Delivery{Address: a, Payload: payload, Message: topics.Message{Type: kind}})
	}
}

// announce tells everyone else of p.
func (m *Memory) announce(p *peer) {
	d := topics.Delivery{Address: topics.Address{Room: p.room, Kind: topics.Presence, Src: p.name}, Payload: p.presence}
	m.reach(d, func(s *session) {
		if s.id.Name != p.name {
			_ = s.take(d)
		}
	})
}

// reach goes through the sessions that subscribed to where d is.
func (m *Memory) reach(d topics.Delivery, yield func(*session)) {
	for _, s := range m.sessions {
		if slices.ContainsFunc(s.parsed, func(f topics.Filter) bool { return f.Match(d.Address) }) {
			yield(s)
		}
	}
}

// retained gives s the presences under f.
func (m *Memory) retained(s *session, f topics.Filter) {
	for _, room := range m.rooms {
		for _, p := range room {
			d := topics.Delivery{Address: topics.Address{Room: p.room, Kind: topics.Presence, Src: p.name}, Payload: p.presence, Retained: true}
			if f.Match(d.Address) && s.id.Name != p.name && p.presence != nil {
				_ = s.take(d)
			}
		}
	}
}
