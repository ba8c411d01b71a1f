package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const patience = 10 * time.Second // for a broker that does not acknowledge

type linkConfig struct {
	broker, root, room, peer string
	user, password           string
	ca                       []byte // PEM; nil: the system's
	presence                 presence
}

// presence is what everyone in the room learns about this camera.
type presence struct {
	Online  bool           `json:"online"`
	Role    string         `json:"role"`
	Name    string         `json:"name,omitempty"`
	Offers  bool           `json:"offers"`
	Trickle bool           `json:"trickle"`
	Max     int            `json:"max,omitempty"`
	Codecs  []string       `json:"codecs"`
	Info    map[string]any `json:"info"`
}

// link is the camera's place in its room, over one MQTT connection that comes
// back by itself. Three topics are all there is:
//
//	{root}/v1/{room}/to/{me}/+       subscribed: what each peer says to me
//	{root}/v1/{room}/to/{peer}/{me}  published: what I say to a peer
//	{root}/v1/{room}/peers/{me}      published, retained: who I am
type link struct {
	config  linkConfig
	say     func(format string, args ...any)
	client  mqtt.Client
	receive func(from string, payload []byte) error
	fatal   chan error // holds the first reason to give up
	over    atomic.Bool

	out    chan outgoing
	stop   chan struct{} // closed at the end
	writer sync.WaitGroup
}

type outgoing struct {
	to      string
	payload []byte
}

func newLink(config linkConfig, say func(string, ...any)) (*link, error) {
	options, err := options(config)
	if err != nil {
		return nil, err
	}
	l := &link{config: config, say: say, fatal: make(chan error, 1), out: make(chan outgoing, 256), stop: make(chan struct{})}
	options.SetOnConnectHandler(func(client mqtt.Client) {
		if err := l.join(client); err != nil {
			l.giveUp(err)
		}
	})
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		say("the broker is lost (%v); calls go on, trying to come back", err)
	})
	var before atomic.Value // an attempt fails every few seconds: say it once
	options.SetConnectionNotificationHandler(func(_ mqtt.Client, n mqtt.ConnectionNotification) {
		switch n := n.(type) {
		case mqtt.ConnectionNotificationFailed:
			if text := fmt.Sprint(n.Reason); before.Swap(text) != text {
				say("the broker %s does not let us in (%v); trying again", config.broker, n.Reason)
			}
		case mqtt.ConnectionNotificationConnected:
			before.Store("")
		}
	})
	l.client = mqtt.NewClient(options)
	l.writer.Go(l.write)
	return l, nil
}

// options are paho's, for a device that must come back whatever happens.
func options(config linkConfig) (*mqtt.ClientOptions, error) {
	broker, err := url.Parse(config.broker)
	if err != nil || broker.Host == "" {
		return nil, fmt.Errorf("the broker's address %q is not like tcp://host:1883", config.broker)
	}
	o := mqtt.NewClientOptions().AddBroker(config.broker)
	o.SetClientID(config.peer).SetUsername(config.user).SetPassword(config.password)
	o.SetProtocolVersion(4) // or paho tries each refused password again with MQTT 3.1
	o.SetCleanSession(true) // what waits for us waits in the room, not in a session
	o.SetKeepAlive(20 * time.Second).SetPingTimeout(patience)
	o.SetConnectTimeout(patience).SetWriteTimeout(patience)
	o.SetAutoReconnect(true).SetMaxReconnectInterval(5 * time.Second) // paho's own: 10 minutes
	o.SetConnectRetry(true).SetConnectRetryInterval(2 * time.Second)
	// No last will: the server knows when this connection is gone and says so
	// itself, to the room and to whoever is in a call with us. On a broker that
	// is not Beckon, presence outlives a camera that loses its power; set
	// SetWill(presence topic, "", 1, true) there.

	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if config.ca != nil {
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(config.ca) {
			return nil, errors.New("--ca holds no certificate")
		}
	}
	return o.SetTLSConfig(secure), nil
}

// run is in the room until ctx is done (nil) or there is no sense in trying on.
// receive is called for one message after the other and must not block.
func (l *link) run(ctx context.Context, receive func(from string, payload []byte) error) error {
	l.receive = receive
	l.client.Connect() // goes on trying by itself
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.fatal:
		// At once, before paho connects again and takes the place of whoever is
		// in the room under our name.
		l.client.Disconnect(0)
		return err
	}
}

// join is done on every new connection, for paho makes no subscription again.
// First the inbox, then presence: whoever sees the camera can talk to it.
func (l *link) join(client mqtt.Client) error {
	if l.over.Load() {
		return nil
	}
	filter := l.topic("to", l.config.peer, "+")
	token := client.Subscribe(filter, 1, l.arrived)
	if !token.WaitTimeout(patience) {
		return fmt.Errorf("%s does not acknowledge a subscription", l.config.broker)
	}
	// The answer is in the result: not every refusal is an error to paho.
	if code, ok := token.(*mqtt.SubscribeToken).Result()[filter]; ok && code > 2 {
		return fmt.Errorf("%s refuses %q (0x%x): user %q may not be the peer %s of %s",
			l.config.broker, filter, code, l.config.user, l.config.peer, l.config.room)
	}
	if token.Error() != nil {
		return nil // the connection broke; the next one tries again
	}

	payload, err := json.Marshal(l.config.presence)
	if err != nil {
		return err
	}
	done := client.Publish(l.topic("peers", l.config.peer), 1, true, payload)
	if done.WaitTimeout(patience) && done.Error() == nil {
		l.say("ready: %s is in %s on %s", l.config.peer, l.config.room, l.config.broker)
	}
	return nil
}

// arrived takes whatever comes into the inbox: one subscription for all peers,
// because paho looks through its subscriptions one by one.
func (l *link) arrived(_ mqtt.Client, m mqtt.Message) {
	from := strings.TrimPrefix(m.Topic(), l.topic("to", l.config.peer, ""))
	if m.Retained() || strings.Contains(from, "/") {
		return // not of this protocol
	}
	if err := l.receive(from, m.Payload()); err != nil {
		l.giveUp(err)
	}
}

// send says something to a peer. It does not wait: a broker that takes nothing
// any more must not hold up what comes in.
func (l *link) send(to string, payload []byte) {
	if l.over.Load() {
		return // we have no place in the room from which to say it
	}
	select {
	case l.out <- outgoing{to, payload}:
	default:
		l.say("the broker is too slow; a message to %s is dropped", to)
	}
}

// write publishes what send was given, in order.
func (l *link) write() {
	for {
		select {
		case m := <-l.out:
			l.publish(m)
			continue
		case <-l.stop:
		}
		for { // what was said before the end
			select {
			case m := <-l.out:
				l.publish(m)
			default:
				return
			}
		}
	}
}

func (l *link) publish(m outgoing) {
	if !l.client.IsConnectionOpen() { // IsConnected would be true while reconnecting
		l.say("there is no broker; a message to %s is dropped", m.to)
		return
	}
	l.client.Publish(l.topic("to", m.to, l.config.peer), 1, false, m.payload)
}

// close leaves: what was said last goes out, presence is emptied, DISCONNECT.
// What is sent afterwards goes nowhere.
func (l *link) close() {
	close(l.stop)
	l.writer.Wait()
	if l.client.IsConnectionOpen() {
		left := l.client.Publish(l.topic("peers", l.config.peer), 1, true, []byte{})
		left.WaitTimeout(2 * time.Second)
	}
	l.client.Disconnect(250)
}

func (l *link) giveUp(err error) {
	l.over.Store(true)
	select {
	case l.fatal <- err:
	default:
	}
}

func (l *link) topic(levels ...string) string {
	return l.config.root + "/v1/" + l.config.room + "/" + strings.Join(levels, "/")
}
