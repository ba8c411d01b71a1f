package broker

import "time"

// A device stays listed in the rooms that it was in, as offline, until it may not be
// there any more, or the server stops.

// maxListed is in how many rooms one device may be listed. In more of them it is like
// any other peer, gone when it leaves: nothing else would end those rooms.
const maxListed = 256

// list counts one more room of a device, if there may be one.
func (b *Broker) list(device string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listed[device] >= maxListed {
		b.Logger.Warn("not kept listed", "peer", device, "why", "it is listed in as many rooms as it may be", "rooms", maxListed)
		return false
	}
	b.listed[device]++
	return true
}

// unlist has p be gone when it is given up, if it is a device.
func (r *room) unlist(p *peer) {
	if !p.device {
		return
	}
	p.device = false
	r.broker.mu.Lock()
	defer r.broker.mu.Unlock()
	if r.broker.listed[p.name]--; r.broker.listed[p.name] == 0 {
		delete(r.broker.listed, p.name)
	}
}

// recheckListed gives up the devices without a connection that may not be in the
// room any more.
func (r *room) recheckListed() {
	r.mu.Lock()
	defer r.leave()
	for _, p := range r.sorted() {
		if p.device && p.member == nil && !p.session.mayBeListed(r.name) {
			r.unlist(p)
			r.giveUp(p, "not granted any more")
		}
	}
}

// mayBeListed reports whether the device that had s may be in the room by now. That
// its credentials ended in the meantime takes nothing from it: it comes with others.
func (s *Session) mayBeListed(room string) bool {
	id := s.identity.Load()
	if id == nil {
		id = s.former.Load()
	}
	if id == nil {
		return true // it is being expelled, which sees to it
	}
	was := *id
	was.Expires = time.Time{}
	now, err := s.broker.Still(was)
	return err == nil && now.Device && now.MayJoin(room)
}
