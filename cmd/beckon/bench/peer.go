package bench

import (
	"sync"
	"sync/atomic"
)

// peer is one connection, in one room, and what it said and heard. Everyone hears
// numbered messages from one other peer only.
type peer struct {
	run     *run
	index   int // of all peers of the run
	name    string
	room    string
	door    string
	listens bool                 // to what is said to all
	hear    func(mark)           // what to do with what arrives; called by the reader, in order
	link    link                 // replaced by storm only, while nothing else runs
	kept    atomic.Pointer[link] // link, once it is there, of a door whose clients must ping
	cutting atomic.Bool          // the connection is to end
	over    chan struct{}        // closed when the reader of link has ended
	order   order                // the reader's

	mu     sync.Mutex // guards number, and that messages leave in its order
	number uint32

	sent, got, doubled, disordered, acked, pongs atomic.Int64
}

// say numbers a message and sends it. An error is the reader's business, which
// gets one, too; what was not written counts as lost.
func (p *peer) say(to string, k kind, call uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	p.sent.Add(1)
	_ = p.link.say(to, mark{kind: k, call: call, number: p.number, sent: p.run.now()})
}

// take takes what arrives.
func (p *peer) take(payload []byte) {
	m, ok := readMark(payload)
	if !ok {
		if code, text, ok := readError(payload); ok {
			p.run.faults.add(code, text)
		}
		return
	}
	switch p.order.note(m.number) {
	case doubled:
		p.doubled.Add(1)
		return
	case disordered:
		p.disordered.Add(1)
	}
	p.got.Add(1)
	if p.hear != nil {
		p.hear(m)
	}
}

// start reads from the link, until it ends.
func (p *peer) start(l link) {
	p.link = l
	if p.door != doorWS {
		p.kept.Store(&l)
	}
	p.cutting.Store(false)
	p.over = make(chan struct{})
	over := p.over
	go func() {
		defer close(over)
		err := l.read(p)
		if !p.cutting.Load() {
			p.run.lostConnection(p, err)
		}
		l.cut()
	}()
}

// leave ends the connection in good order.
func (p *peer) leave() {
	if p.link == nil {
		return
	}
	p.cutting.Store(true)
	p.link.leave()
	<-p.over
}
