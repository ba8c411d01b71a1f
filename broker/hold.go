package broker

import (
	"encoding/json"
	"slices"

	"github.com/beckon-rtc/beckon/topics"
)

// hold keeps m for p, which is expected back, or asleep. Of each sender it keeps
// the newest session: an older offer would only ring a camera for somebody who has
// called again since.
func (r *room) hold(p *peer, m *message) error {
	if m.opens {
		p.waiting = slices.DeleteFunc(p.waiting, func(old *message) bool {
			if old.Src != m.Src || old.Session == "" || old.Session == m.Session || old.handed {
				return false // of another call, or of one that may be going on
			}
			if old.Opens() {
				if from := r.peers[old.Src]; from != nil {
					from.end(old, p)
				}
				r.tellSender(old, topics.Errorf(topics.Offline, "%s is not here yet, and %s waits for it in place of %s", p.name, m.Session, old.Session))
			}
			return true
		})
	}
	if err := p.wait(m, r.broker.MaxHeld); err != nil {
		return err
	}
	if m.opens && !p.online {
		r.wake(p, m)
	}
	return nil
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
