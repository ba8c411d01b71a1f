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
		p.waiting = slices.DeleteFunc(p.waiting, func(old *message) bool {
			if old.Src != m.Src || old.Session == m.Session || !began[call{old.Session, old.Src}] {
				return false // of another call, or of one that may be going on
			}
			if old.opens {
				if from := r.peers[old.Src]; from != nil {
					from.end(old, p)
				}
				r.tellSender(old, topics.Errorf(topics.Offline, "%s is not here yet, and %s waits for it in place of %s", p.name, m.Session, old.Session))
			}
			return true
		})
	}
	if err := p.wait(m, r.broker); err != nil {
		return err
	}
	if !p.online {
		r.awaitWaking(p)
		if m.opens {
			r.wake(p, m)
		}
	}
	return nil
}

// awaitWaking has the timer of p, a device that is offline, run until something of
// what waits for it has waited long enough. That need not be the first: what a lost
// connection gave back waits before what was said meanwhile, but longer.
func (r *room) awaitWaking(p *peer) {
	if len(p.waiting) == 0 || p.expected() {
		return
	}
	first := slices.MinFunc(p.waiting, func(a, b *message) int { return a.until.Compare(b.until) })
	p.expect(r, max(time.Until(first.until), 1))
}

// overdue takes out of what waits for p what has waited long enough.
func (p *peer) overdue() (late []*message) {
	now := time.Now()
	p.waiting = slices.DeleteFunc(p.waiting, func(m *message) bool {
		is := !m.until.After(now)
		if is {
			late = append(late, m)
		}
		return is
	})
	return late
}

// holdOn is called when p, a device, is given up: it takes out of what waits what
// began meanwhile, and may wait until the device has been woken.
func (r *room) holdOn(p *peer) (held []*message) {
	if !p.device || r.broker.Hold <= 0 {
		return nil
	}
	began, now := p.began(), time.Now()
	p.waiting = slices.DeleteFunc(p.waiting, func(m *message) bool {
		stays := m.lasting() && m.sender != nil && m.until.After(now) && (m.Session == "" || began[call{m.Session, m.Src}])
		if stays {
			held = append(held, m)
		}
		return stays
	})
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
