package broker

import (
	"errors"

	"github.com/beckon-rtc/beckon/topics"
)

// Delivered or told: how a message gets to the one it is for, and what becomes of
// it when it does not.

// from makes a message in the room from one peer, or the server, to another.
func (r *room) from(src, dst string, payload []byte) *message {
	return &message{qos: 1, Delivery: topics.Delivery{
		Address: topics.Address{Room: r.name, Kind: topics.Direct, Dst: dst, Src: src},
		Payload: payload,
	}}
}

// direct hands m, from the peer me, to the one it is for.
func (r *room) direct(m *message, me *peer, from *member) error {
	if m.Dst == topics.Server {
		return r.asked(m, from)
	}
	p := r.peers[m.Dst]
	if m.Ends() {
		me.end(m, p) // it has ended for its sender, whether the other side hears of it or not
	}
	if p == nil {
		return topics.Errorf(topics.NotFound, "there is no %s in %s", m.Dst, r.name)
	}
	if err := p.takes(m); err != nil {
		return err
	}
	m.Until = r.deadline(p)
	if !m.expires.IsZero() && m.expires.Before(m.Until) {
		m.Until = m.expires
	}
	m.opens = m.Opens() && !me.has(m)
	if m.opens {
		for _, side := range [...]*peer{me, p} {
			if most := r.broker.MaxSessions; len(side.calls) >= most {
				return topics.Errorf(topics.Busy, "%s has %d sessions open, it cannot have more", side.name, most)
			}
		}
	}
	if err := r.hand(p, m); err != nil {
		return err
	}
	if m.opens {
		me.calls[call{m.Session, p.name}] = struct{}{}
		p.calls[call{m.Session, me.name}] = struct{}{}
	}
	r.watch(m, p.member)
	return nil
}

// takes says whether m is short enough for p.
func (p *peer) takes(m *message) error {
	if most := p.status.Max; most > 0 && len(m.Payload) > most {
		return topics.Errorf(topics.TooLarge, "the message has %d bytes, %s takes at most %d", len(m.Payload), p.name, most)
	}
	return nil
}

// hand gives m to p, or lets it wait if p is expected soon.
func (r *room) hand(p *peer, m *message) error {
	if p.member != nil && !p.member.away && len(p.waiting) == 0 {
		if how, ok := p.member.reception(m.Address, m.Src == p.name); ok {
			err := p.member.session.receiver.deliver(m, how)
			switch {
			case err == nil:
				return nil
			case !errors.Is(err, errClosed):
				return undelivered(err, p.name, r.name)
			}
			return r.wait(p, m) // its connection is ending just now
		}
	}
	switch {
	case len(p.waiting) > 0 || p.expected():
		return r.hold(p, m)
	case p.member == nil && p.device && r.broker.Hold > 0 && m.sender != nil:
		return r.hold(p, m)
	case p.member == nil:
		return topics.Errorf(topics.Offline, "%s is offline in %s", p.name, r.name)
	default:
		return topics.Errorf(topics.Offline, "%s in %s does not listen to %s: it has not subscribed to its inbox", p.name, r.name, m.Src)
	}
}

// tellExpired is called when m waited for the connection of its receiver until it
// expired.
func (b *Broker) tellExpired(m *message) {
	r := b.enter(m.Room, false)
	if r == nil {
		return // nobody is left to be told
	}
	defer r.leave()
	r.failOne(r.peers[m.Dst], m, topics.Errorf(topics.Timeout, "%s did not take the message within the %d s of its Message Expiry Interval",
		m.Dst, m.properties.MessageExpiryInterval))
}

// undelivered says, to the sender, why a receiver did not get a message.
func undelivered(err error, peer, room string) *topics.Error {
	if errors.Is(err, errFull) {
		return topics.Errorf(topics.Busy, "%s in %s does not take its messages, its queue is full", peer, room)
	}
	return topics.AsError(err)
}

// must hands m, which the server says, to p: it waits beyond any limit, and a
// receiver that does not take it is cut off, since it would not learn it any
// other way.
func (r *room) must(p *peer, m *message) {
	switch err := r.hand(p, m); {
	case err == nil:
	case p.member == nil && p.expected(), len(p.waiting) > 0:
		if p.ages(m) {
			m.Until = r.deadline(p)
		}
		r.waits(p, append(p.waiting, m))
	case p.member != nil && topics.AsError(err).Code == topics.Busy:
		p.member.session.tooSlow()
	}
}

// say hands m to everyone else in the room who listens.
func (r *room) say(m *message, from *member) {
	for _, lost := range r.fanOut(m, from) {
		r.tellSender(m, lost)
	}
}

// watch shows what is said to one peer to those who may read it all.
func (r *room) watch(m *message, to *member) {
	if r.watching > 0 || len(*r.broker.watchers.Load()) > 0 {
		r.fanOut(m, to)
	}
}

// tell sends a message of the server to a member, if it listens.
func (r *room) tell(in *member, payload []byte, kind string) {
	m := r.from(topics.Server, in.session.peer, payload)
	m.Type = kind
	r.pass(in, m)
}

// warn tells a member of something about its connection. That is of no interest to
// the next one; a suspended session is told at once, since what waits for its peer
// may be given up now.
func (r *room) warn(in *member, why *topics.Error) {
	m := r.from(topics.Server, in.session.peer, why.Payload())
	m.Type, m.personal = topics.TypeError, true
	r.pass(in, m)
}

func (r *room) pass(in *member, m *message) {
	r.reach(in, m)
	if m.Type == topics.TypeError {
		r.watch(m, in)
	}
}

// reach hands a member what the server says to it, or has it wait for when its client
// is back.
func (r *room) reach(in *member, m *message) {
	if in.away && in.peer != nil && !m.personal {
		r.keep(in, m)
		return
	}
	how, ok := in.reception(m.Address, false)
	if !ok {
		return
	}
	switch err := in.session.receiver.deliver(m, how); {
	case errors.Is(err, errFull):
		in.session.tooSlow() // it missed what it must know
	case errors.Is(err, errClosed) && in.peer != nil && m.lasting(): // its connection is ending just now
		r.waits(in.peer, append(in.peer.waiting, m))
	}
}

// tellSender tells whoever sent m what became of it, if need be on the connection
// that it has by now.
func (r *room) tellSender(m *message, err error) {
	told := topics.AsError(err)
	if told.About == "" {
		told = told.Of(m.Message, m.Dst)
	}
	r.broker.lost(m, told)
	if m.sender == nil {
		return
	}
	p := r.peers[m.Src]
	switch to := r.members[m.sender]; {
	case to != nil:
		r.tell(to, told.Payload(), topics.TypeError)
	case p != nil && p.member != nil:
		r.tell(p.member, told.Payload(), topics.TypeError)
	case p != nil && (p.expected() || len(p.waiting) > 0):
		late := r.from(topics.Server, p.name, told.Payload())
		late.Type = topics.TypeError
		r.must(p, late)
	}
}

// asked answers what a peer asks the server.
func (r *room) asked(m *message, from *member) error {
	if m.Type != topics.TypeICE {
		return topics.Errorf(topics.BadRequest, "the server (%s) takes ice, not %s", topics.Server, m.Type)
	}
	r.tell(from, r.broker.hello(topics.TypeICE, r.name, from.session).Payload(), topics.TypeICE)
	return nil
}
