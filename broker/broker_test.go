package broker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// server is a broker behind a TCP listener.
type server struct {
	*Broker
	addr string
}

func serve(t testing.TB, c Config) *server {
	t.Helper()
	if c.Authenticate == nil {
		c.Authenticate = auth.Dev
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, n := range []*int{&c.Rate, &c.Joins} { // budgets have tests of their own
		if *n == 0 {
			*n = -1
		}
	}
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.ServeConn(conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-accepting
		_ = b.Close()
	})
	return &server{b, l.Addr().String()}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// got is a message as a client got it.
type got struct {
	topic, payload string
	qos            byte
	retained       bool
}

func (g got) String() string { return g.topic + " " + g.payload }

// mqttPeer is a client, of either version of MQTT, with what it received.
type mqttPeer struct {
	t        *testing.T
	name     string
	received chan got
	v3       paho3.Client
	v5       *paho5.Client
	conn     net.Conn
	ended    chan struct{} // the server ended the connection
}

func (s *server) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// client3 connects by MQTT 3.1.1, client5 by version 5.
func (s *server) client3(t *testing.T, name string, opts ...func(*paho3.ClientOptions)) *mqttPeer {
	t.Helper()
	p := &mqttPeer{t: t, name: name, received: make(chan got, 1000), ended: make(chan struct{}), conn: s.dial(t)}
	o := paho3.NewClientOptions().AddBroker("tcp://" + s.addr).SetClientID(name).SetProtocolVersion(4).SetAutoReconnect(false).SetOrderMatters(true)
	o.SetCustomOpenConnectionFn(func(*url.URL, paho3.ClientOptions) (net.Conn, error) { return p.conn, nil })
	o.SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) {
		p.received <- got{m.Topic(), string(m.Payload()), m.Qos(), m.Retained()}
	})
	o.SetConnectionLostHandler(func(paho3.Client, error) { close(p.ended) })
	for _, opt := range opts {
		opt(o)
	}
	p.v3 = paho3.NewClient(o)
	if tok := p.v3.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("%s does not connect: %v", name, tok.Error())
	}
	t.Cleanup(func() { p.v3.Disconnect(0) })
	return p
}

func (s *server) client5(t *testing.T, name string, opts ...func(*paho5.Connect)) *mqttPeer {
	t.Helper()
	p := &mqttPeer{t: t, name: name, received: make(chan got, 1000), ended: make(chan struct{}), conn: s.dial(t)}
	ended := sync.OnceFunc(func() { close(p.ended) }) // the client may say both
	p.v5 = paho5.NewClient(paho5.ClientConfig{
		Conn: p.conn,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(r paho5.PublishReceived) (bool, error) {
			p.received <- got{r.Packet.Topic, string(r.Packet.Payload), r.Packet.QoS, r.Packet.Retain}
			return true, nil
		}},
		OnClientError:      func(error) { ended() },
		OnServerDisconnect: func(*paho5.Disconnect) { ended() },
	})
	cp := &paho5.Connect{ClientID: name, CleanStart: true, KeepAlive: 30}
	for _, opt := range opts {
		opt(cp)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if ack, err := p.v5.Connect(ctx, cp); err != nil {
		t.Fatalf("%s does not connect: %v %+v", name, err, ack)
	}
	t.Cleanup(func() { _ = p.v5.Disconnect(&paho5.Disconnect{}) })
	return p
}

// subscribe subscribes at QoS 1 and fails unless every filter is granted.
func (p *mqttPeer) subscribe(filters ...string) *mqttPeer {
	p.t.Helper()
	for _, f := range filters {
		if code := p.trySubscribe(f, 1); code > 2 {
			p.t.Fatalf("%s: SUBACK %#x for %s", p.name, code, f)
		}
	}
	return p
}

func (p *mqttPeer) trySubscribe(filter string, qos byte) byte {
	p.t.Helper()
	if p.v3 != nil {
		tok := p.v3.Subscribe(filter, qos, nil).(*paho3.SubscribeToken)
		if !tok.WaitTimeout(patience) {
			p.t.Fatalf("%s: no SUBACK for %s", p.name, filter)
		}
		for _, code := range tok.Result() { // paho has it without $share/{group}/
			return code
		}
		return 0x80 // the connection ended
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ack, err := p.v5.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: filter, QoS: qos}}})
	if ack == nil {
		p.t.Fatalf("%s: no SUBACK for %s: %v", p.name, filter, err)
	}
	return ack.Reasons[0]
}

func (p *mqttPeer) unsubscribe(filters ...string) {
	p.t.Helper()
	for chunk := range slices.Chunk(filters, 4) {
		if p.v3 != nil {
			if tok := p.v3.Unsubscribe(chunk...); !tok.WaitTimeout(patience) {
				p.t.Fatalf("%s: no UNSUBACK", p.name)
			}
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if _, err := p.v5.Unsubscribe(ctx, &paho5.Unsubscribe{Topics: chunk}); err != nil {
			p.t.Fatalf("%s: UNSUBSCRIBE: %v", p.name, err)
		}
		cancel()
	}
}

// publish publishes and returns the reason code of the acknowledgement (0 in
// 3.1.1 and at QoS 0).
func (p *mqttPeer) publish(topic, payload string, qos byte) byte {
	p.t.Helper()
	return p.publishAs(topic, payload, qos, strings.Contains(topic, "/peers/"))
}

func (p *mqttPeer) publishAs(topic, payload string, qos byte, retain bool) byte {
	p.t.Helper()
	if p.v3 != nil {
		if tok := p.v3.Publish(topic, qos, retain, payload); !tok.WaitTimeout(patience) || tok.Error() != nil {
			p.t.Fatalf("%s: publish to %s is not acknowledged: %v", p.name, topic, tok.Error())
		}
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ack, err := p.v5.Publish(ctx, &paho5.Publish{Topic: topic, QoS: qos, Retain: retain, Payload: []byte(payload)})
	if ack == nil && qos > 0 {
		p.t.Fatalf("%s: publish to %s is not acknowledged: %v", p.name, topic, err)
	}
	if ack == nil {
		return 0
	}
	return ack.ReasonCode
}

// next returns the next message, whatever it is.
func (p *mqttPeer) next() got {
	p.t.Helper()
	select {
	case g := <-p.received:
		return g
	case <-time.After(patience):
		p.t.Fatalf("%s: nothing comes", p.name)
		return got{}
	}
}

// expect waits for messages on these topics, whose payload contains the text
// after the topic, in that order; others between them are an error.
func (p *mqttPeer) expect(want ...string) {
	p.t.Helper()
	for _, w := range want {
		topic, text, _ := strings.Cut(w, " ")
		if g := p.next(); g.topic != topic || !strings.Contains(g.payload, text) {
			p.t.Fatalf("%s got  %v\nwant %s", p.name, g, w)
		}
	}
}

// until waits for such a message and passes over others.
func (p *mqttPeer) until(want string) got {
	p.t.Helper()
	topic, text, _ := strings.Cut(want, " ")
	for {
		if g := p.next(); g.topic == topic && strings.Contains(g.payload, text) {
			return g
		}
	}
}

// quiet fails if p received anything. It asks the server something first, whose
// answer comes after all that is on its way.
func (p *mqttPeer) quiet(room string) {
	p.t.Helper()
	p.publish(fmt.Sprintf("rtc/v1/%s/to/_/%s", room, p.name), `{"type":"ice"}`, 1)
	if g := p.next(); g.topic != fmt.Sprintf("rtc/v1/%s/to/%s/_", room, p.name) || !strings.Contains(g.payload, `"type":"ice"`) {
		p.t.Fatalf("%s got %v, nothing was to come", p.name, g)
	}
}

// cut breaks the connection without a word.
func (p *mqttPeer) cut() { _ = p.conn.Close() }

func (p *mqttPeer) waitEnded() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s: the server does not end the connection", p.name)
	}
}

// leave disconnects as MQTT has it.
func (p *mqttPeer) leave() {
	if p.v3 != nil {
		p.v3.Disconnect(100)
		return
	}
	_ = p.v5.Disconnect(&paho5.Disconnect{})
}

// inbox is the filter of what is said to the peer.
func inbox(room, peer string) string { return topics.DefaultRoot.Inbox(room, peer) }

func (p *mqttPeer) identity() topics.Identity {
	id, err := auth.Dev(context.Background(), topics.Credentials{Name: p.name})
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}
