package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	paho5packets "github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/topics"
)

// atMost is how long a test waits for what must come.
const atMost = 20 * time.Second

// entrance is a way into the server: a protocol over a transport.
type entrance struct {
	protocol string // "MQTT 3.1.1", "MQTT 5", "JSON" or "HTTP"
	scheme   string // "tcp", "tls", "ws", "wss", "http" or "https"
}

func (e entrance) String() string { return e.protocol + " by " + e.scheme }

var (
	mqtt3TCP = entrance{"MQTT 3.1.1", "tcp"}
	mqtt3TLS = entrance{"MQTT 3.1.1", "tls"}
	mqtt3WS  = entrance{"MQTT 3.1.1", "ws"}
	mqtt3WSS = entrance{"MQTT 3.1.1", "wss"}
	mqtt5TCP = entrance{"MQTT 5", "tcp"}
	mqtt5TLS = entrance{"MQTT 5", "tls"}
	mqtt5WS  = entrance{"MQTT 5", "ws"}
	mqtt5WSS = entrance{"MQTT 5", "wss"}
	jsonWS   = entrance{"JSON", "ws"}
	jsonWSS  = entrance{"JSON", "wss"}
	sseHTTP  = entrance{"HTTP", "http"}
	sseHTTPS = entrance{"HTTP", "https"}

	twoWay        = []entrance{mqtt3TCP, mqtt3TLS, mqtt3WS, mqtt3WSS, mqtt5TCP, mqtt5TLS, mqtt5WS, mqtt5WSS, jsonWS, jsonWSS} // one connection both ways
	everyEntrance = append(twoWay[:len(twoWay):len(twoWay)], sseHTTP, sseHTTPS)
	mainEntrances = []entrance{mqtt3TCP, mqtt5TCP, jsonWS, mqtt3WS} // one of each kind
)

// site is a server with a certificate, and what its clients need to trust it.
type site struct {
	*testServer
	trust *tls.Config
	dial  func(network, addr string) (net.Conn, error) // nil: by TCP
	told  io.Writer                                    // gets the data of each event of event streams, a line each; nil: nothing
}

func startSite(t testing.TB, args ...string) *site {
	t.Helper()
	cert, key := writeCertificate(t)
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool()}
	if !trust.RootCAs.AppendCertsFromPEM(pem) {
		t.Fatal("the certificate cannot be trusted")
	}
	return &site{testServer: startServer(t, append(args, "--tls-cert="+cert, "--tls-key="+key)...), trust: trust}
}

// awaitLog waits until the server has logged a line with all these words.
func (s *site) awaitLog(t testing.TB, words ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q in the log", words), func() bool {
	lines:
		for line := range strings.Lines(s.Log.String()) {
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue lines
				}
			}
			return true
		}
		return false
	})
}

// eventually waits until is holds, for what sends no event.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(atMost)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// open opens a transport for MQTT.
func (s *site) open(scheme string) (net.Conn, error) {
	if s.dial != nil {
		return s.dial("mqtt", s.MQTT)
	}
	dialer := &net.Dialer{Timeout: atMost}
	switch scheme {
	case "tcp":
		return dialer.Dial("tcp", s.MQTT)
	case "tls":
		return tls.DialWithDialer(dialer, "tcp", s.MQTT, s.trust)
	default:
		return paho3.NewWebsocket(scheme+"://"+s.MQTT+"/mqtt", s.trust, atMost, nil, nil)
	}
}

// socket is the TCP connection below TLS and WebSocket.
func socket(c net.Conn) net.Conn {
	for {
		above, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = above.NetConn()
	}
}

// event is what a client was told, in the same words at every entrance.
type event struct {
	kind string // "joined", "presence", "message", "all", "error" or "goaway"
	room string
	from string // whom it is about, or who says it
	text string // as MQTT has it: a JSON frame without its routing members
}

func (e event) String() string {
	return fmt.Sprintf("%s of %s in %s: %s", e.kind, e.from, e.room, e.text)
}

// gone reports whether e tells that a peer has left.
func (e event) gone() bool { return e.kind == "presence" && e.text == "" }

// line is the connection of a caller.
type line interface {
	join(room string) error
	// send sends payloads in one go, to everyone in the room if to is "". It
	// returns what became of the last: an error's code by JSON, a PUBACK's
	// reason by MQTT 5, otherwise 0.
	send(room, to string, payloads ...string) (fate int, err error)
	part(room string) error // leaves a room, and stays connected
	leave()                 // goes, as the protocol has it
	cut()                   // breaks the TCP connection without a word
}

// caller is a peer at one of the entrances.
type caller struct {
	line
	t      testing.TB
	name   string
	at     entrance
	room   string // joined last
	events chan event
	ended  chan string // once: how the server ended the connection, in its code

	present map[string]string // presences that were seen

	// again is true of what may come a second time, since the connection before
	// was cut when it had arrived and was not acknowledged yet.
	again func(event) bool
}

// connect makes a caller that is in no room yet.
func (s *site) connect(t testing.TB, at entrance, name string) *caller {
	t.Helper()
	c := &caller{t: t, name: name, at: at, events: make(chan event, 10000), ended: make(chan string, 1), present: make(map[string]string)}
	var err error
	switch at.protocol {
	case "MQTT 3.1.1":
		c.line, err = s.mqtt3(t, c)
	case "MQTT 5":
		c.line, err = s.mqtt5(t, c)
	case "HTTP":
		c.line = s.http(t, c)
	default:
		c.line, err = s.json(t, c)
	}
	if err != nil {
		t.Fatalf("%s does not connect by %v: %v", name, at, err)
	}
	return c
}

// caller connects, and joins room.
func (s *site) caller(t testing.TB, at entrance, name, room string) *caller {
	t.Helper()
	c := s.connect(t, at, name)
	c.join(room)
	return c
}

func (c *caller) end(code string) {
	select {
	case c.ended <- code:
	default: // it was told before
	}
}

func (c *caller) join(room string) {
	c.t.Helper()
	c.room = room
	if err := c.line.join(room); err != nil {
		c.t.Fatalf("%s does not join %s by %v: %v", c.name, room, c.at, err)
	}
	c.until("its welcome", func(e event) bool { return e.kind == "joined" && e.room == room })
}

func (c *caller) send(to string, payloads ...string) (fate int) {
	c.t.Helper()
	fate, err := c.line.send(c.room, to, payloads...)
	if err != nil {
		c.t.Fatalf("%s (%v) cannot send to %s: %v", c.name, c.at, to, err)
	}
	return fate
}

// next returns the next event, whatever it is.
func (c *caller) next(what string) event {
	c.t.Helper()
	select {
	case e := <-c.events:
		if c.again != nil && c.again(e) {
			return c.next(what)
		}
		if e.kind == "presence" {
			c.present[e.from] = e.text
		}
		return e
	case <-time.After(atMost):
		c.t.Fatalf("%s (%v) waited in vain for %s", c.name, c.at, what)
		return event{}
	}
}

// until passes over events until one is it.
func (c *caller) until(what string, is func(event) bool) event {
	c.t.Helper()
	for {
		if e := c.next(what); is(e) {
			return e
		}
	}
}

// sees waits until these peers are present.
func (c *caller) sees(names ...string) {
	c.t.Helper()
	for _, name := range names {
		for c.present[name] == "" {
			c.until("the presence of "+name, func(e event) bool { return e.kind == "presence" })
		}
	}
}

// hears demands that the next events are exactly these messages.
func (c *caller) hears(from string, payloads ...string) {
	c.t.Helper()
	for _, want := range payloads {
		got := c.next("a message of " + from)
		if c.at.protocol == "HTTP" { // where a line end is one, however it was written
			want = strings.ReplaceAll(want, "\r\n", "\n")
		}
		if got.kind != "message" || got.from != from || got.text != want {
			c.t.Fatalf("%s (%v) got %v\nwant from %s %s", c.name, c.at, got, from, want)
		}
	}
}

// isTold demands that the next event is an error with that code.
func (c *caller) isTold(code int, words ...string) {
	c.t.Helper()
	e := c.next("an error " + strconv.Itoa(code))
	ok := e.kind == "error" && strings.Contains(e.text, fmt.Sprintf(`"code":%d,`, code))
	for _, w := range words {
		ok = ok && (strings.Contains(e.text, w) || c.at.protocol == "HTTP") // which tells in the answer to what it is about
	}
	if !ok {
		c.t.Fatalf("%s (%v) got %v\nwant an error %d with %q", c.name, c.at, e, code, words)
	}
}

// quiet fails if something has come, but for what may. It asks the server
// something, whose answer comes after all that is on its way.
func (c *caller) quiet(may ...func(event) bool) {
	c.t.Helper()
	c.send(topics.Server, `{"type":"ice"}`)
next:
	for {
		e := c.next("the answer to its question")
		if e.kind == "message" && e.from == topics.Server {
			return
		}
		for _, ok := range may {
			if ok(e) {
				continue next
			}
		}
		c.t.Fatalf("%s (%v) got %v, nothing was to come", c.name, c.at, e)
	}
}

// isEnded waits for the server to end the connection, with a code where the
// protocol has any.
func (c *caller) isEnded(mqtt5, json string) {
	c.t.Helper()
	want := map[string]string{"MQTT 5": mqtt5, "JSON": json}[c.at.protocol]
	select {
	case code := <-c.ended:
		if want != "" && code != want {
			c.t.Fatalf("%s (%v) was ended with %s, want %s", c.name, c.at, code, want)
		}
	case <-time.After(atMost):
		c.t.Fatalf("%s (%v): the server does not end the connection", c.name, c.at)
	}
}

// mqttTopics are the topics of a peer.
type mqttTopics struct{ me string }

func (m mqttTopics) filters(room string) []string {
	return []string{"rtc/v1/" + room + "/peers/+", "rtc/v1/" + room + "/all/+"}
}
func (m mqttTopics) inbox(room string) string { return "rtc/v1/" + room + "/to/" + m.me + "/+" }
func (m mqttTopics) own(room string) string   { return "rtc/v1/" + room + "/peers/" + m.me }
func (m mqttTopics) presence() string         { return `{"online":true,"name":"` + m.me + `"}` }
func (m mqttTopics) to(room, dst string) string {
	if dst == "" {
		return "rtc/v1/" + room + "/all/" + m.me
	}
	return "rtc/v1/" + room + "/to/" + dst + "/" + m.me
}

// mqttEvent is a PUBLISH as an event.
func mqttEvent(topic string, payload []byte) event {
	levels := strings.Split(topic, "/") // rtc v1 {room} {kind} ...
	e := event{kind: "message", room: levels[2], from: levels[len(levels)-1], text: string(payload)}
	switch levels[3] {
	case "peers":
		e.kind = "presence"
	case "all":
		e.kind = "all"
	}
	if e.from == topics.Server {
		e.kind = said(e.text, e.kind)
	}
	return e
}

// said is the kind of what the server itself says.
func said(payload, otherwise string) string {
	var m struct{ Type string }
	_ = json.Unmarshal([]byte(payload), &m)
	switch m.Type {
	case "hello":
		return "joined"
	case "error":
		return "error"
	}
	return otherwise
}

// line3 is MQTT 3.1.1 by paho.mqtt.golang.
type line3 struct {
	mqttTopics
	client paho3.Client
	conn   net.Conn
}

func (s *site) mqtt3(t testing.TB, c *caller, opts ...func(*paho3.ClientOptions)) (*line3, error) {
	l := &line3{mqttTopics: mqttTopics{c.name}}
	o := paho3.NewClientOptions().AddBroker("tcp://" + s.MQTT).SetClientID(c.name).SetProtocolVersion(4).
		SetAutoReconnect(false).SetOrderMatters(true).SetConnectTimeout(atMost).SetPingTimeout(atMost).
		SetCustomOpenConnectionFn(func(*url.URL, paho3.ClientOptions) (_ net.Conn, err error) {
			l.conn, err = s.open(c.at.scheme)
			return l.conn, err
		}).
		SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) { c.events <- mqttEvent(m.Topic(), m.Payload()) }).
		SetConnectionLostHandler(func(_ paho3.Client, err error) { c.end(err.Error()) })
	for _, opt := range opts {
		opt(o)
	}
	l.client = paho3.NewClient(o)
	t.Cleanup(func() { l.client.Disconnect(0) })
	return l, done(l.client.Connect())
}

func done(token paho3.Token) error {
	if !token.WaitTimeout(atMost) {
		return context.DeadlineExceeded
	}
	return token.Error()
}

func (l *line3) join(room string) error {
	for _, f := range l.filters(room) {
		if err := l.subscribe(f); err != nil {
			return err
		}
	}
	if err := done(l.client.Publish(l.own(room), 1, true, l.presence())); err != nil {
		return err
	}
	return l.subscribe(l.inbox(room))
}

func (l *line3) subscribe(filter string) error {
	token := l.client.Subscribe(filter, 1, nil)
	if err := done(token); err != nil {
		return err
	}
	if code := token.(*paho3.SubscribeToken).Result()[filter]; code > 2 {
		return fmt.Errorf("SUBACK %#x for %s", code, filter)
	}
	return nil
}

func (l *line3) send(room, to string, payloads ...string) (int, error) {
	var tokens []paho3.Token
	for _, p := range payloads {
		tokens = append(tokens, l.client.Publish(l.to(room, to), 1, false, p))
	}
	for _, token := range tokens {
		if err := done(token); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func (l *line3) part(room string) error { return done(l.client.Publish(l.own(room), 1, true, "")) }
func (l *line3) leave()                 { l.client.Disconnect(250) }

// cut winds up the client, too, which does not notice that its own socket was
// closed. Its DISCONNECT has no way to go any more.
func (l *line3) cut() {
	_ = socket(l.conn).Close()
	l.client.Disconnect(0)
}

// line5 is MQTT 5 by paho.golang.
type line5 struct {
	mqttTopics
	client *paho5.Client
	conn   net.Conn
	life   context.Context // done when the connection has ended
}

func (s *site) mqtt5(t testing.TB, c *caller, opts ...func(*paho5.Connect)) (*line5, error) {
	l := &line5{mqttTopics: mqttTopics{c.name}}
	var err error
	if l.conn, err = s.open(c.at.scheme); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	l.life = life
	l.client = paho5.NewClient(paho5.ClientConfig{
		Conn:          paho5packets.NewThreadSafeConn(l.conn),
		PacketTimeout: atMost,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(r paho5.PublishReceived) (bool, error) {
			c.events <- mqttEvent(r.Packet.Topic, r.Packet.Payload)
			return true, nil
		}},
		OnClientError: func(err error) {
			c.end(err.Error())
			end()
		},
		OnServerDisconnect: func(d *paho5.Disconnect) {
			c.end(fmt.Sprintf("0x%X", d.ReasonCode))
			end()
		},
	})
	packet := &paho5.Connect{ClientID: c.name, CleanStart: true, KeepAlive: 60}
	for _, opt := range opts {
		opt(packet)
	}
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	if _, err := l.client.Connect(ctx, packet); err != nil {
		return nil, err
	}
	t.Cleanup(l.leave)
	return l, nil
}

func (l *line5) join(room string) error {
	for _, f := range l.filters(room) {
		if err := l.subscribe(f); err != nil {
			return err
		}
	}
	if _, err := l.publish(l.own(room), l.presence(), true); err != nil {
		return err
	}
	return l.subscribe(l.inbox(room))
}

func (l *line5) subscribe(filter string) error {
	ctx, cancel := context.WithTimeout(l.life, atMost)
	defer cancel()
	_, err := l.client.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: filter, QoS: 1}}})
	return err
}

func (l *line5) publish(topic, payload string, retain bool) (int, error) {
	ctx, cancel := context.WithTimeout(l.life, atMost)
	defer cancel()
	ack, err := l.client.Publish(ctx, &paho5.Publish{Topic: topic, QoS: 1, Retain: retain, Payload: []byte(payload)})
	if ack == nil {
		return 0, err
	}
	return int(ack.ReasonCode), nil
}

func (l *line5) publishQoS(topic, payload string, qos byte) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	ack, err := l.client.Publish(ctx, &paho5.Publish{Topic: topic, QoS: qos, Payload: []byte(payload)})
	if ack == nil {
		return 0, err
	}
	return int(ack.ReasonCode), nil
}

func (l *line5) send(room, to string, payloads ...string) (int, error) {
	ctx, cancel := context.WithTimeout(l.life, atMost)
	defer cancel()
	last := len(payloads) - 1
	for _, p := range payloads[:last] {
		m := &paho5.Publish{Topic: l.to(room, to), QoS: 1, Payload: []byte(p)}
		if _, err := l.client.PublishWithOptions(ctx, m, paho5.PublishOptions{Method: paho5.PublishMethod_AsyncSend}); err != nil {
			return 0, err
		}
	}
	return l.publish(l.to(room, to), payloads[last], false)
}

func (l *line5) part(room string) error {
	_, err := l.publish(l.own(room), "", true)
	return err
}

func (l *line5) leave() { _ = l.client.Disconnect(&paho5.Disconnect{}) }
func (l *line5) cut()   { _ = socket(l.conn).Close() }

// lineJSON is JSON over WebSocket by gorilla.
type lineJSON struct {
	me      string
	ws      *websocket.Conn
	lastID  int
	replies chan reply    // of frames with an id, in order
	gone    chan struct{} // the reader has ended

	more  string            // further members of a join, after a comma
	known func(string) bool // is asked about each frame first; one that is known is no event
}

type reply struct {
	id   string
	code int // of an error, otherwise 0
	text string
}

func (s *site) json(t testing.TB, c *caller, opts ...func(*lineJSON)) (*lineJSON, error) {
	l := &lineJSON{me: c.name, replies: make(chan reply, 10000), gone: make(chan struct{})}
	dialer := websocket.Dialer{TLSClientConfig: s.trust, HandshakeTimeout: atMost, NetDial: s.dial}
	var err error
	if l.ws, _, err = dialer.Dial(c.at.scheme+"://"+s.MQTT+"/ws", nil); err != nil {
		return nil, err
	}
	for _, opt := range opts {
		opt(l)
	}
	go func() {
		defer close(l.gone)
		c.end(l.read(c.events))
	}()
	t.Cleanup(func() {
		_ = l.ws.Close()
		<-l.gone
	})
	return l, nil
}

// read reads until the connection ends, and returns its close code.
func (l *lineJSON) read(events chan<- event) (code string) {
	for {
		_, frame, err := l.ws.ReadMessage()
		if closed, ok := err.(*websocket.CloseError); ok {
			return strconv.Itoa(closed.Code)
		}
		if err != nil {
			return err.Error()
		}
		if l.known == nil || !l.known(string(frame)) {
			l.take(string(frame), events)
		}
	}
}

func (l *lineJSON) take(frame string, events chan<- event) {
	var m map[string]json.RawMessage // not a struct, which takes "Type" for "type"
	if err := json.Unmarshal([]byte(frame), &m); err != nil {
		events <- event{kind: "not JSON", text: frame}
		return
	}
	text := func(name string) (s string) {
		_ = json.Unmarshal(m[name], &s)
		return s
	}
	e := event{kind: "message", room: text("room"), from: text("from"), text: frame}
	switch text("type") {
	case "presence":
		e.kind, e.from, e.text = "presence", text("peer"), presenceText(m["presence"])
	case "joined":
		for _, p := range peersOf(m["peers"]) {
			events <- event{"presence", e.room, p.Peer, presenceText(p.Presence)}
		}
		e.kind = "joined"
	case "error", "goaway":
		e.kind = text("type")
	case "ok", "pong":
		e.kind = ""
	default:
		routing := fmt.Sprintf(`"room":%q,"from":%q,`, e.room, e.from)
		if m["all"] != nil {
			e.kind, routing = "all", routing+`"all":true,`
		}
		e.text = "no routing members: " + frame
		if strings.Count(frame, routing) == 1 {
			e.text = strings.Replace(frame, routing, "", 1)
		}
	}
	if e.kind != "" {
		events <- e
	}
	if id := m["id"]; id != nil {
		r := reply{id: string(id), text: frame}
		_ = json.Unmarshal(m["code"], &r.code)
		l.replies <- r
	}
}

func presenceText(presence json.RawMessage) string {
	if string(presence) == "null" {
		return ""
	}
	return string(presence)
}

func peersOf(list json.RawMessage) (peers []struct {
	Peer     string
	Presence json.RawMessage
}) {
	_ = json.Unmarshal(list, &peers)
	return peers
}

// ask sends frames, each of which gets the next id, and waits for all replies.
func (l *lineJSON) ask(frames ...func(id int) string) (last reply, err error) {
	first := l.lastID + 1
	for _, f := range frames {
		l.lastID++
		if err := l.ws.WriteMessage(websocket.TextMessage, []byte(f(l.lastID))); err != nil {
			return last, err
		}
	}
	for id := first; id <= l.lastID; id++ {
		select {
		case last = <-l.replies:
			if last.id != strconv.Itoa(id) {
				return last, fmt.Errorf("the reply to frame %d is %s", id, last.text)
			}
		case <-l.gone:
			return last, fmt.Errorf("the connection ended before the reply to frame %d", id)
		case <-time.After(atMost):
			return last, fmt.Errorf("no reply to frame %d", id)
		}
	}
	return last, nil
}

func (l *lineJSON) join(room string) error {
	r, err := l.ask(func(id int) string {
		return fmt.Sprintf(`{"type":"join","id":%d,"room":%q,"peer":%q,"presence":{"name":%q}%s}`, id, room, l.me, l.me, l.more)
	})
	if err == nil && r.code != 0 {
		err = fmt.Errorf("the join was answered with %s", r.text)
	}
	return err
}

// send puts the routing members first or last, in turns, so that each payload
// is what is left when they are cut out.
func (l *lineJSON) send(room, to string, payloads ...string) (int, error) {
	var frames []func(int) string
	for _, p := range payloads {
		frames = append(frames, func(id int) string {
			routing := fmt.Sprintf(`"id":%d , "room":%q`, id, room)
			if to != "" {
				routing += fmt.Sprintf(`,"to":%q`, to)
			}
			if id%2 == 0 {
				at := strings.IndexByte(p, '"')
				return p[:at] + routing + "," + p[at:]
			}
			at := len(strings.TrimRight(strings.TrimRight(p, " \n\t")[:strings.LastIndexByte(p, '}')], " \n\t"))
			return p[:at] + "," + routing + p[at:]
		})
	}
	last, err := l.ask(frames...)
	return last.code, err
}

func (l *lineJSON) part(room string) error {
	_, err := l.ask(func(id int) string { return fmt.Sprintf(`{"type":"leave","id":%d,"room":%q}`, id, room) })
	return err
}

func (l *lineJSON) leave() {
	_ = l.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(atMost))
	select {
	case <-l.gone:
	case <-time.After(atMost):
	}
	_ = l.ws.Close()
}

func (l *lineJSON) cut() { _ = socket(l.ws.NetConn()).Close() }
