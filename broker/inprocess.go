package broker

import (
	"sync"

	"github.com/beckon-rtc/beckon/topics"
)

// Inbox is the door's end of a session; see bridge.Inbox.
type Inbox interface {
	Take(topics.Delivery) error
	Back(room string) []topics.Delivery
}

// inProcess is the receiver of a session that another door of this program
// holds.
type inProcess struct {
	mu     sync.Mutex // one delivery at a time: rooms deliver independently of each other
	inbox  Inbox
	closed bool
}

func (p *inProcess) deliver(m *message, r reception) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	d := m.Delivery
	d.Retained = r.retain
	switch {
	case m.sender == nil: // d.Sender is to be no nil of a type
	case m.opens:
		d.Sender = opener{m.sender}
	default:
		d.Sender = m.sender
	}
	switch err := p.inbox.Take(d); {
	case err == nil:
		return nil
	case topics.AsError(err).Code == topics.Offline:
		return errClosed // it is ending, and will close soon
	default:
		return errFull
	}
}

// opener is the sender of a message that began its session, as a door knows it.
type opener struct{ *Session }

// undelivered is what the door says that it has not delivered.
func (p *inProcess) undelivered(room string) []*message {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	var back []*message
	for _, d := range p.inbox.Back(room) {
		m := &message{Delivery: d, qos: 1, handed: d.Handed}
		switch by := d.Sender.(type) {
		case *Session:
			m.sender = by
		case opener:
			m.sender, m.opens = by.Session, true
		}
		m.Sender = nil // each delivery has its own
		back = append(back, m)
	}
	return back
}

// end tells the door, by an error that is about no room. Of a takeover it knows
// from the error in its inbox, and of a shutdown from the program.
func (p *inProcess) end(e end) {
	if e.why != nil {
		_ = p.deliver(&message{Delivery: topics.Delivery{
			Address: topics.Address{Kind: topics.Direct, Src: topics.Server},
			Message: topics.Message{Type: topics.TypeError},
			Payload: e.why.Payload(),
		}}, reception{})
	}
}

func (p *inProcess) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}
