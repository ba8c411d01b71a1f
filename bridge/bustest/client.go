package bustest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// room is the room of the tests.
const room = "garage"

// client is a session on the bus with everything that arrived for it.
type client struct {
	bridge.Bus
	t    *testing.T
	id   topics.Identity
	in   *inbox
	name string
}

// inbox records deliveries in order.
type inbox struct {
	mu      sync.Mutex
	got     []topics.Delivery
	refuse  error
	back    []topics.Delivery
	arrived chan struct{} // has one when something did
}

// Take is of bridge.Inbox.
func (in *inbox) Take(d topics.Delivery) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.refuse != nil {
		return in.refuse
	}
	in.got = append(in.got, d)
	select {
	case in.arrived <- struct{}{}:
	default:
	}
	return nil
}

// Back gives back what the test says that the client has not got.
func (in *inbox) Back(room string) []topics.Delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(in.back), func(d topics.Delivery) bool { return d.Room != room })
}

// all empties the inbox.
func (in *inbox) all() []topics.Delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	got := in.got
	in.got = nil
	return got
}

// find removes what first matches.
func (in *inbox) find(match func(topics.Delivery) bool) (topics.Delivery, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, d := range in.got {
		if match(d) {
			in.got = append(in.got[:i:i], in.got[i+1:]...)
			return d, true
		}
	}
	return topics.Delivery{}, false
}

// PeerOf is an identity that may be a peer in every room.
func PeerOf(name string) topics.Identity {
	return topics.Identity{Name: name, Grants: []topics.Grant{{Room: "*", Role: topics.Peer}}}
}

// connect opens a session that ends with the test.
func connect(t *testing.T, bus bridge.Connect, id topics.Identity) *client {
	t.Helper()
	in := &inbox{arrived: make(chan struct{}, 1)}
	b, err := bus(id, "ws", in)
	if err != nil {
		t.Fatalf("connect %s: %v", id.Name, err)
	}
	t.Cleanup(func() { b.Close(true) })
	return &client{Bus: b, t: t, id: id, in: in, name: id.Name}
}

// join connects and joins the room of the tests, and forgets what that told.
func join(t *testing.T, bus bridge.Connect, id topics.Identity) *client {
	t.Helper()
	c := connect(t, bus, id)
	c.join(topics.PresenceOnline)
	c.in.all()
	return c
}

func (c *client) own() topics.Address {
	return topics.Address{Room: room, Kind: topics.Presence, Src: c.name}
}

func (c *client) to(dst string) topics.Address {
	return topics.Address{Room: room, Kind: topics.Direct, Dst: dst, Src: c.name}
}

func (c *client) toAll() topics.Address {
	return topics.Address{Room: room, Kind: topics.All, Src: c.name}
}

func (c *client) subscribe() {
	c.t.Helper()
	if err := c.Subscribe(c.id.Filters(topics.DefaultRoot, room)...); err != nil {
		c.t.Fatalf("%s subscribes: %v", c.name, err)
	}
}

func (c *client) join(presence string) {
	c.t.Helper()
	c.publish(c.own(), presence)
	c.subscribe()
}

func (c *client) publish(a topics.Address, payload string) {
	c.t.Helper()
	if err := c.Publish(a, []byte(payload)); err != nil {
		c.t.Fatalf("%s publishes %.80q: %v", c.name, payload, err)
	}
}

// refused wants an error of that code.
func (c *client) refused(code topics.Code, err error) *topics.Error {
	c.t.Helper()
	e, ok := errors.AsType[*topics.Error](err)
	if !ok || e.Code != code {
		c.t.Fatalf("%s was answered %v, want %d %s", c.name, err, code, code.Reason())
	}
	return e
}

// wait returns the first that matches, and takes it out of the inbox.
func (c *client) wait(what string, match func(topics.Delivery) bool) topics.Delivery {
	c.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		if d, ok := c.in.find(match); ok {
			return d
		}
		select {
		case <-c.in.arrived:
		case <-late.C:
			c.t.Fatalf("%s waited in vain for %s; there came %s", c.name, what, show(c.in.all()))
		}
	}
}

// message waits for the next message of a peer.
func (c *client) message(src string) topics.Delivery {
	c.t.Helper()
	return c.wait("a message of "+src, func(d topics.Delivery) bool { return d.Kind != topics.Presence && d.Src == src })
}

// presence waits for the next presence of a peer.
func (c *client) presence(src string) topics.Delivery {
	c.t.Helper()
	return c.wait("a presence of "+src, func(d topics.Delivery) bool { return d.Kind == topics.Presence && d.Src == src })
}

// fence waits until everything that other said to c before has arrived.
func (c *client) fence(other *client) {
	c.t.Helper()
	other.publish(other.to(c.name), `{"type":"msg","data":"fence"}`)
	c.wait("the fence", func(d topics.Delivery) bool { return string(d.Payload) == `{"type":"msg","data":"fence"}` })
}

// nothing wants nothing to be in the inbox, of what matches.
func (c *client) nothing(what string, match func(topics.Delivery) bool) {
	c.t.Helper()
	if d, ok := c.in.find(match); ok {
		c.t.Fatalf("%s has %s: %s", c.name, what, show([]topics.Delivery{d}))
	}
}

func anything(topics.Delivery) bool { return true }

func isMessage(d topics.Delivery) bool { return d.Kind != topics.Presence }

func isPresence(d topics.Delivery) bool { return d.Kind == topics.Presence }

func show(all []topics.Delivery) string {
	if len(all) == 0 {
		return "nothing"
	}
	text := ""
	for _, d := range all {
		text += fmt.Sprintf("\n\t%s %s<-%s %.120s", d.Kind, d.Dst, d.Src, d.Payload)
	}
	return text
}
