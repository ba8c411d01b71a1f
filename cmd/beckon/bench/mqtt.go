package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/beckon-rtc/beckon/topics"
)

// keepAlive is what MQTT clients promise, in seconds; they ping in half of it.
const keepAlive = 60

// mqttLink is the link by MQTT 3.1.1.
type mqttLink struct {
	out   io.Writer
	tcp   *net.TCPConn
	in    packetReader
	room  string
	me    string
	root  topics.Root
	qos   byte
	texts *texts
	acks  []byte // that wait until there is nothing to read; the reader's

	mu    sync.Mutex // guards writing, and what follows
	id    uint16     // of the newest PUBLISH
	to    string     // whom topic is for
	topic string
}

func (r *run) newMQTT(p *peer, conn io.ReadWriter, tcp *net.TCPConn) *mqttLink {
	return &mqttLink{
		out: conn, tcp: tcp, in: packetReader{in: bufio.NewReaderSize(conn, r.buffer)},
		room: p.room, me: p.name, root: topics.Root(r.Root), qos: r.QoS, texts: &r.texts,
	}
}

// join connects and subscribes to the inbox, which is how an MQTT client joins,
// and to what is said to all if p listens to it.
func (l *mqttLink) join(ctx context.Context, p *peer, username, password string) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = l.tcp.SetDeadline(deadline)
		defer l.tcp.SetDeadline(noDeadline)
	}
	if username == "" && password != "" {
		username = l.me // a password needs a name beside it
	}
	if _, err := l.out.Write(connect{ClientID: l.me, Username: username, Password: password, KeepAlive: keepAlive}.append(nil)); err != nil {
		return err
	}
	connack, err := l.in.next()
	switch {
	case err != nil:
		return fmt.Errorf("no CONNACK: %w", err)
	case connack.kind != connackPacket:
		return fmt.Errorf("a packet of type %d came before the CONNACK", connack.kind)
	case connack.codes[0] == 3: // server unavailable, 3.2.2.3
		return errors.New("the server is unavailable: CONNACK 0x03")
	case connack.codes[0] != 0:
		return refused("the server refused the connection: CONNACK %#02x", connack.codes[0])
	}
	filters := []string{l.root.Topic(topics.Address{Room: l.room, Kind: topics.Direct, Dst: l.me, Src: "+"})}
	if p.listens {
		filters = append(filters, l.root.Topic(topics.Address{Room: l.room, Kind: topics.All, Src: "+"}))
	}
	if _, err := l.out.Write(appendSubscribe(nil, 1, l.qos, filters...)); err != nil {
		return err
	}
	for {
		got, err := l.in.next()
		if err != nil {
			return fmt.Errorf("no SUBACK: %w", err)
		}
		if got.kind == publishPacket {
			l.publish(p, got)
		}
		if got.kind != subackPacket {
			continue
		}
		for i, code := range got.codes {
			if code > 2 && i < len(filters) {
				return refused("the server refused the subscription to %s: SUBACK %#02x", filters[i], code)
			}
		}
		return nil
	}
}

func (l *mqttLink) say(to string, m mark) error {
	s := spaces.Get().(*space)
	defer spaces.Put(s)
	s.payload = l.texts.append(s.payload[:0], m)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to != to || l.topic == "" {
		a := topics.Address{Room: l.room, Kind: topics.Direct, Dst: to, Src: l.me}
		if to == "" {
			a.Kind = topics.All
		}
		l.to, l.topic = to, l.root.Topic(a)
	}
	if l.id++; l.id == 0 {
		l.id = 1
	}
	s.packet = appendPublish(s.packet[:0], l.topic, l.qos, l.id, len(s.payload))
	s.packet = append(s.packet, s.payload...)
	_, err := l.out.Write(s.packet)
	return err
}

func (l *mqttLink) ping() error { return l.write(pingreq) }

func (l *mqttLink) write(p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.out.Write(p)
	return err
}

func (l *mqttLink) read(p *peer) error {
	for {
		got, err := l.in.next()
		if err != nil {
			return err
		}
		switch got.kind {
		case publishPacket:
			l.publish(p, got)
		case pubackPacket:
			p.acked.Add(1)
		case pingrespPacket:
			p.pongs.Add(1)
		}
		if len(l.acks) > 0 && l.in.in.Buffered() == 0 {
			if err := l.write(l.acks); err != nil {
				return err
			}
			l.acks = l.acks[:0]
		}
	}
}

func (l *mqttLink) publish(p *peer, got packet) {
	if got.qos > 0 {
		l.acks = appendPuback(l.acks, got.id)
	}
	p.take(got.payload)
}

func (l *mqttLink) leave() {
	_ = l.write([]byte{disconnectPacket << 4, 0})
	_ = l.tcp.Close()
}

func (l *mqttLink) cut() { cutOff(l.tcp) }
