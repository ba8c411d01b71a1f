package broker

import (
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// hello is what the server tells a peer that joined, as "hello", and one that
// asks for ICE servers or whose credentials for them end soon, as "ice".
func (b *Broker) hello(kind, room string, s *Session) topics.Hello {
	h := topics.Hello{Type: kind, TTL: 3600}
	if b.ICEServers != nil {
		var ttl time.Duration
		if h.ICEServers, ttl = b.ICEServers(s.may()); ttl > 0 {
			h.TTL = int(ttl / time.Second)
			s.renewICE(ttl)
		}
	}
	if kind == topics.TypeHello {
		h.Room, h.Peer, h.Max = room, s.peer, b.MaxMessage
	}
	return h
}

// renewICE sends new credentials for the ICE servers before those that were just
// made end.
func (s *Session) renewICE(ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.renewal != nil {
		s.renewal.Stop()
	}
	if !s.closed {
		s.renewal = time.AfterFunc(ttl*3/4, s.tellICE)
	}
}

func (s *Session) tellICE() {
	for _, r := range s.inRooms() {
		r.mu.Lock()
		if in := r.members[s]; in != nil && in.peer != nil {
			r.tell(in, r.broker.hello(topics.TypeICE, r.name, s).Payload(), topics.TypeICE)
		}
		r.leave()
	}
}
