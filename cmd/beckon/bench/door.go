package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// The doors.
const (
	doorMQTT   = "mqtt"   // MQTT over TCP
	doorMQTTWS = "mqttws" // MQTT over WebSocket
	doorWS     = "ws"     // frames of JSON over WebSocket

	// Of other servers, to compare with.
	doorPeerJS = "peerjs" // PeerJS's frames of JSON
	doorRelay  = "relay"  // those of the door ws, to a server that hands all on
)

// Target is where the load goes.
type Target struct {
	Server string `help:"Address of the server, for every door." default:"127.0.0.1:1883" placeholder:"ADDR"`
	MQTT   string `name:"mqtt" help:"Address for the door mqtt, where it is another." placeholder:"ADDR"`
	MQTTWS string `name:"mqttws" help:"URL for the door mqttws, where it is another than ws://SERVER/mqtt." placeholder:"URL"`
	WS     string `name:"ws" help:"URL for the door ws, where it is another than ws://SERVER/ws." placeholder:"URL"`

	TLS      bool `name:"tls" help:"Speak TLS at all doors."`
	Insecure bool `help:"Take any certificate."`

	Root     string `help:"First level of every topic, or the first two." default:"rtc"`
	Username string `help:"MQTT user name, of all." env:"BECKON_BENCH_USERNAME" placeholder:"NAME"`
	Password string `help:"Its password." env:"BECKON_BENCH_PASSWORD" placeholder:"TEXT"`
	JWTKey   string `name:"jwt-key" help:"Secret or private key of the server: every peer gets a token of its own. Not needed with --dev." env:"BECKON_JWT_KEY" placeholder:"FILE"`
}

// check fills in the URLs and reports every mistake.
func (t *Target) check() error {
	var wrong []error
	address := func(flag, a string) {
		if _, _, err := net.SplitHostPort(a); err != nil {
			wrong = append(wrong, fmt.Errorf("--%s %q is not an address: it takes host:port, such as 127.0.0.1:1883", flag, a))
		}
	}
	address("server", t.Server)
	if t.MQTT == "" {
		t.MQTT = t.Server
	} else {
		address("mqtt", t.MQTT)
	}
	scheme := t.scheme()
	for _, u := range []struct{ flag, path, of string }{{doorMQTTWS, "/mqtt", t.MQTTWS}, {doorWS, "/ws", t.WS}} {
		if u.of == "" {
			continue
		}
		switch parsed, err := url.Parse(u.of); {
		case err != nil, parsed.Host == "", !strings.HasPrefix(u.of, "ws"):
			wrong = append(wrong, fmt.Errorf("--%s %q is not a URL: it takes one such as %s%s%s", u.flag, u.of, scheme, t.Server, u.path))
		case !strings.HasPrefix(u.of, scheme):
			wrong = append(wrong, fmt.Errorf("--%s %q has another scheme than %s: --tls says which, for all doors", u.flag, u.of, scheme))
		}
	}
	if t.MQTTWS == "" {
		t.MQTTWS = t.base() + "/mqtt"
	}
	if t.WS == "" {
		t.WS = t.base() + "/ws"
	}
	if err := topics.Root(t.Root).Check(); err != nil {
		wrong = append(wrong, fmt.Errorf("--root: %s", topics.AsError(err).Message))
	}
	return errors.Join(wrong...)
}

func (t *Target) scheme() string {
	if t.TLS {
		return "wss://"
	}
	return "ws://"
}

// base is what the URLs of the server begin with.
func (t *Target) base() string { return t.scheme() + t.Server }

// perSource is how many connections come from one address. A source address has
// about 28,000 ports towards one address of a server, some of which may be taken.
const perSource = 10_000

// tcp connects to an address as connection n. On loopback the connections come from
// 127.0.0.1, 127.0.0.2 and so on, so that ports do not run out; all of that network
// is local on Linux.
func (t *Target) tcp(ctx context.Context, n int, addr string) (*net.TCPConn, error) {
	var dialer net.Dialer
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host).To4(); n >= perSource && ip != nil && ip.IsLoopback() {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, byte(n/perSource>>8), byte(n/perSource)+1)}
	}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// secure is TLS over conn, with --tls.
func (t *Target) secure(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	if !t.TLS {
		return conn, nil
	}
	host, _, _ := net.SplitHostPort(addr)
	secured := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: t.Insecure})
	return secured, secured.HandshakeContext(ctx)
}

// joinTime is how long connecting and joining may take.
const joinTime = 20 * time.Second

// dial connects p by its door and joins it to its room.
func (r *run) dial(ctx context.Context, p *peer) (link, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	made, err := r.open(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("%s by the door %s: %w", p.name, p.door, err)
	}
	return made, nil
}

func (r *run) open(ctx context.Context, p *peer) (link, error) {
	var password, token string
	switch {
	case r.sign != nil:
		var err error
		if token, err = r.sign(p.name); err != nil {
			return nil, err
		}
		password = token
	case r.Username != "":
		password = r.Password
	}
	var tcp *net.TCPConn // below all
	ofURL := func(ctx context.Context, addr string) (net.Conn, error) {
		var err error
		if tcp, err = r.tcp(ctx, p.index, addr); err != nil {
			return nil, err
		}
		return r.secure(ctx, tcp, addr)
	}
	abort := func(err error) (link, error) {
		if tcp != nil {
			tcp.Close()
		}
		return nil, err
	}
	switch p.door {
	case doorPeerJS:
		ws, err := r.upgrade(ctx, peerjsURL(r.base(), p.name), "", ofURL)
		if err != nil {
			return abort(err)
		}
		l := &peerjsLink{frames{ws: ws, tcp: tcp}, &r.texts}
		if err := l.join(ctx); err != nil {
			return abort(err)
		}
		return l, nil
	case doorRelay:
		ws, err := r.upgrade(ctx, r.base()+"/"+p.room, "", ofURL)
		if err != nil {
			return abort(err)
		}
		return &relayLink{frames{ws: ws, tcp: tcp}, &r.texts, []byte(directed + p.name + `"`)}, nil
	case doorWS:
		ws, err := r.upgrade(ctx, r.WS, "", ofURL)
		if err != nil {
			return abort(err)
		}
		l := &jsonLink{frames{ws: ws, tcp: tcp}, &r.texts}
		if err := l.join(ctx, p, token); err != nil {
			return abort(err)
		}
		return l, nil
	case doorMQTTWS:
		ws, err := r.upgrade(ctx, r.MQTTWS, "mqtt", ofURL)
		if err != nil {
			return abort(err)
		}
		l := r.newMQTT(p, &stream{ws: ws}, tcp)
		if err := l.join(ctx, p, r.Username, password); err != nil {
			return abort(err)
		}
		return l, nil
	default:
		conn, err := ofURL(ctx, r.MQTT)
		if err != nil {
			return abort(err)
		}
		l := r.newMQTT(p, conn, tcp)
		if err := l.join(ctx, p, r.Username, password); err != nil {
			return abort(err)
		}
		return l, nil
	}
}
