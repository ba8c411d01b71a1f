package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
)

// peerjsLink is the link by a PeerJS server. It knows no rooms, only peers, and
// reads each frame and writes it anew:
//
//	> {"type":"OFFER","dst":"c-3fa85c-17","payload":{...}}
//	< {"type":"OFFER","src":"v-3fa85c-17","dst":"c-3fa85c-17","payload":{...}}
//
// The payload is the message of the door ws. A bye goes as LEAVE, the only other
// type that the server hands on.
type peerjsLink struct {
	frames
	texts *texts
}

// peerjsTypes are the server's names of what it hands on.
var peerjsTypes = map[kind]string{offer: "OFFER", answer: "ANSWER", candidate: "CANDIDATE", bye: "LEAVE"}

// peerjsURL is where a peer of that name connects.
func peerjsURL(server, name string) string {
	query := url.Values{"key": {"peerjs"}, "id": {name}, "token": {name}, "version": {"1.5.5"}}
	return server + "/peerjs?" + query.Encode()
}

// join waits for the server to take the name.
func (l *peerjsLink) join(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = l.tcp.SetDeadline(deadline)
		defer l.tcp.SetDeadline(noDeadline)
	}
	switch got, err := l.next(); {
	case err != nil:
		return fmt.Errorf("no OPEN: %w", err)
	case !bytes.HasPrefix(got, []byte(`{"type":"OPEN"`)):
		return refused("the server refused the connection: %s", got)
	}
	return nil
}

func (l *peerjsLink) say(to string, m mark) error {
	s := spaces.Get().(*space)
	defer spaces.Put(s)
	s.packet = append(append(s.packet[:0], `{"type":"`...), peerjsTypes[m.kind]...)
	s.packet = append(append(append(s.packet, `","dst":"`...), to...), `","payload":`...)
	s.packet = append(l.texts.append(s.packet, m), '}')
	return l.write(s.packet)
}

// heartbeat is without an answer; a server cuts off who does not send it.
var heartbeat = []byte(`{"type":"HEARTBEAT"}`)

func (l *peerjsLink) ping() error {
	if err := l.write(heartbeat); err != nil {
		return err
	}
	return l.frames.ping()
}

func (l *peerjsLink) read(p *peer) error {
	return l.each(p, func(got []byte) { p.take(bytes.TrimSuffix(got, []byte("}"))) })
}
