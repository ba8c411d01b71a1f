package broker

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// hold keeps m for p, which is expected back, or asleep. Of each sender it keeps
// the newest session: an older offer would only ring a camera for somebody who has
// called again since.
func (r *room) hold(p *peer, m *message) error {
	if m.opens {
		began := p.began()
		var older []*message
		r.waits(p, slices.DeleteFunc(p.waiting, func(old *message) bool {
			is := old.Src == m.Src && old.Session != m.Session && began[call{old.Session, old.Src}] // not of one that may be going on
			if is {
				older = append(older, old)
			}
			return is
		}))
		for _, old := range older {
			r.failOne(p, old, topics.Errorf(topics.Offline, "%s is not here yet, and %s waits for it in place of %s", p.name, m.Session, old.Session))
		}
	}
	if err := r.wait(p, m); err != nil {
		return err
	}
	if !p.online && m.opens {
		r.wake(p, m)
	}
	return nil
}

// minShare is how many messages of one sender may wait for a peer at the least: an
// offer and its candidates.
const minShare = 32

// wait keeps m for p. Of the messages and the bytes that may wait, a sender has half,
// so that none keeps all others from being heard.
func (r *room) wait(p *peer, m *message) error {
	held, theirs, size := 0, 0, 0
	for _, w := range p.waiting {
		if w.Kind != topics.Direct || w.Src == topics.Server {
			continue
		}
		held++
		if w.Src == m.Src || m.sender != nil && w.sender == m.sender {
			theirs++
			size += w.weight()
		}
	}
	most, bytes, weight := r.broker.MaxHeld, r.broker.Queue, m.weight()
	switch {
	case held >= most:
		return topics.Errorf(topics.Busy, "%d messages wait for %s already", held, p.name)
	case theirs >= max(minShare, most/2):
		return topics.Errorf(topics.Busy, "%d messages of %s wait for %s already", theirs, m.Src, p.name)
	case p.bytes > 0 && p.bytes+weight > bytes:
		return topics.Errorf(topics.Busy, "%d bytes wait for %s already, no more than %d can", p.bytes, p.name, bytes)
	case size > 0 && size+weight > bytes/2:
		return topics.Errorf(topics.Busy, "%d bytes of %s wait for %s already, no more than %d can", size, m.Src, p.name, bytes/2)
	}
	if m.Until.IsZero() && p.ages(m) { // the server says it
		m.Until = r.deadline(p)
	}
	r.waits(p, append(p.waiting, m))
	r.await(p, m)
	return nil
}

// waits has all wait for p, in place of what was, which it returns.
func (r *room) waits(p *peer, all []*message) (was []*message) {
	was, p.waiting = p.waiting, all
	size := 0
	for _, m := range all {
		size += m.weight()
	}
	r.broker.Queued.Add(int64(size - p.bytes))
	p.bytes = size
	return was
}

// deadline is when the sender of a message to p, accepted now, is told that it
// failed. It is set once: a receiver that comes and goes, and acknowledges nothing,
// does not put it off. What is said to a peer that is there, or in its grace, may
// wait for the grace if that is longer. p may be nil.
func (r *room) deadline(p *peer) time.Time {
	most := r.broker.Hold
	if p != nil && p.online {
		most = max(most, r.broker.Grace)
	}
	return time.Now().Add(most)
}

// await has what waits for p looked at when it is too late for m.
func (r *room) await(p *peer, m *message) {
	if !p.ages(m) || !p.due.IsZero() && !m.Until.Before(p.due) {
		return
	}
	p.rest()
	p.due = m.Until
	p.patience = time.AfterFunc(max(time.Until(p.due), 1), func() { r.late(p) })
}

// rest ends that.
func (p *peer) rest() {
	if p.patience != nil {
		p.patience.Stop()
		p.patience = nil
	}
	p.due = time.Time{}
}

// late is called when something may have waited for p long enough.
func (r *room) late(p *peer) {
	r.mu.Lock()
	defer r.leave()
	if !r.broker.draining.Load() {
		r.failOverdue(p)
	}
}

// failOverdue fails what has waited for p long enough. What else waits need not have
// come later: what a lost connection gave back waits before what was said meanwhile.
func (r *room) failOverdue(p *peer) {
	p.rest()
	var all []*message
	r.waits(p, slices.DeleteFunc(p.waiting, func(m *message) bool {
		is := p.overdue(m)
		if is {
			all = append(all, m)
		}
		return is
	}))
	for _, m := range all {
		r.failOne(p, m, topics.Errorf(topics.Offline, "%s is offline in %s", p.name, r.name))
	}
	for _, m := range p.waiting {
		r.await(p, m)
	}
}

// ages reports whether m waits for p until its time only. What the server says, the
// end of a call first of all, a peer that is expected back would not learn in any
// other way.
func (p *peer) ages(m *message) bool {
	return m.Kind == topics.Direct && (!p.online || m.sender != nil || m.Src != topics.Server && !m.Ends())
}

// overdue reports whether the time of m, which is for p, is over.
func (p *peer) overdue(m *message) bool { return p.ages(m) && !m.Until.After(time.Now()) }

// holdOn is called when p, a device, is given up: it takes out of what waits what
// began meanwhile, and may wait until the device has been woken.
func (r *room) holdOn(p *peer) (held []*message) {
	if !p.device || r.broker.Hold <= 0 {
		return nil
	}
	began := p.began()
	r.waits(p, slices.DeleteFunc(p.waiting, func(m *message) bool {
		stays := m.lasting() && m.sender != nil && !p.overdue(m) && (m.Session == "" || began[call{m.Session, m.Src}])
		if stays {
			held = append(held, m)
		}
		return stays
	}))
	return held
}

// began are the sessions whose beginning waits for p, and has not reached it.
func (p *peer) began() map[call]bool {
	all := make(map[call]bool)
	for _, m := range p.waiting {
		if m.opens && !m.handed {
			all[call{m.Session, m.Src}] = true
		}
	}
	return all
}

// wake says that somebody waits for p, to who reads it, and to the program.
func (r *room) wake(p *peer, m *message) {
	payload, err := json.Marshal(struct {
		Type    string `json:"type"`
		For     string `json:"for"`
		Session string `json:"session"`
	}{"wake", m.Src, m.Session})
	if err != nil {
		panic(err) // text only
	}
	r.fanOut(&message{qos: 1, Delivery: topics.Delivery{
		Address: topics.Address{Room: r.name, Kind: topics.Wake, Dst: p.name},
		Payload: payload,
	}}, nil)
	if r.broker.Wake != nil {
		r.broker.Wake(r.name, p.name, m.Src, m.Session)
	}
}
