package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/broker/guard"
	"github.com/beckon-rtc/beckon/topics"
	mqtt "github.com/mochi-mqtt/server/v2"
)

// Config says how a Broker behaves. Of every number, zero stands for the
// default and a negative one for none.
type Config struct {
	// Authenticate turns what a client showed into an identity. Required. Its
	// error, an [*topics.Error], is for the client to see; whom it refuses is its own
	// to log.
	Authenticate func(context.Context, topics.Credentials) (topics.Identity, error)

	// Still says what an identity may do by now, or that it is revoked. Nil: what
	// it could when it came.
	Still func(topics.Identity) (topics.Identity, error)

	// ICEServers are the ones for a peer, with credentials that are good for ttl.
	// Nil: none.
	ICEServers func(topics.Identity) (servers []topics.ICEServer, ttl time.Duration)

	// Wake is told, once for each session, that from waits for peer, which is
	// offline: so that a gateway can wake a sleeping camera. It must not block.
	// Nil: nobody is told but who subscribed under wake/.
	Wake func(room, peer, from, session string)

	Root        topics.Root      // first level of the topics; "rtc"
	Grace       time.Duration    // how long a peer may come back after its connection was lost; 5 s
	MaxMessage  int              // bytes of a message; 64 KiB
	MaxSessions int              // sessions open per peer; 64
	MaxPeers    int              // peers of a room; 1,000
	MaxRooms    int              // rooms of a connection; 32
	Rate        int              // messages of a connection, a second; 50
	Burst       int              // messages of a connection at once; 200
	Joins       int              // joins of a connection, a second; 10
	Hold        time.Duration    // how long messages wait for a device that is offline; 20 s
	MaxHeld     int              // messages that wait for a peer that is expected back; 64
	Queue       int              // bytes waiting to be written to an MQTT connection, and not acknowledged by it; 1 MiB
	Write       time.Duration    // one write to an MQTT connection waits at most, and so a full window for an acknowledgement; 5 s
	Handshake   time.Duration    // from accepting a connection to its CONNECT; 10 s
	Now         func() time.Time // the clock that credentials end by; time.Now
	Queued      *atomic.Int64    // where the bytes that wait for all MQTT connections, and are held, are counted; nowhere by default
	Soon        func(func())     // has a turn to write called soon, see guard.Limits; on a goroutine of its own
	Logger      *slog.Logger     // discards by default

	// MinKeepAlive and MaxKeepAlive bound the keep-alive of MQTT clients, in whole
	// seconds; 10 s and 10 min. Who has another one than it asked for is told so, in
	// MQTT 5 (3.2.2.3.14).
	MinKeepAlive, MaxKeepAlive time.Duration
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Authenticate == nil {
		errs = append(errs, errors.New("there is no Authenticate"))
	}
	if c.Root == "" {
		c.Root = topics.DefaultRoot
	}
	if err := c.Root.Check(); err != nil {
		errs = append(errs, err)
	}
	number := func(n *int, byDefault int) {
		switch {
		case *n == 0:
			*n = byDefault
		case *n < 0:
			*n = int(^uint(0) >> 1)
		}
	}
	number(&c.MaxMessage, 64<<10)
	number(&c.MaxSessions, 64)
	number(&c.MaxPeers, 1000)
	number(&c.MaxRooms, 32)
	number(&c.MaxHeld, 64)
	for n, byDefault := range map[*int]int{&c.Rate: 50, &c.Burst: 200, &c.Joins: 10} {
		if *n == 0 {
			*n = byDefault
		}
	}
	number(&c.Queue, 1<<20)
	if c.Grace == 0 {
		c.Grace = 5 * time.Second
	}
	if c.Hold == 0 {
		c.Hold = 20 * time.Second
	}
	if c.Write == 0 {
		c.Write = 5 * time.Second
	}
	switch {
	case c.Handshake == 0:
		c.Handshake = 10 * time.Second
	case c.Handshake < 0:
		c.Handshake = forever
	}
	errs = append(errs, c.boundKeepAlive())
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Queued == nil {
		c.Queued = new(atomic.Int64)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("broker: %w", err)
	}
	return c, nil
}

// longestKeepAlive is the longest that MQTT has.
const longestKeepAlive = math.MaxUint16 * time.Second

// boundKeepAlive fills in the bounds of the keep-alive, and says what is wrong with
// them.
func (c *Config) boundKeepAlive() error {
	switch {
	case c.MinKeepAlive == 0:
		c.MinKeepAlive = 10 * time.Second
	case c.MinKeepAlive < 0:
		c.MinKeepAlive = time.Second
	}
	switch {
	case c.MaxKeepAlive == 0:
		c.MaxKeepAlive = 10 * time.Minute
	case c.MaxKeepAlive < 0:
		c.MaxKeepAlive = longestKeepAlive
	}
	switch {
	case c.MinKeepAlive%time.Second != 0 || c.MaxKeepAlive%time.Second != 0:
		return fmt.Errorf("keep-alive from %v to %v: it is in whole seconds", c.MinKeepAlive, c.MaxKeepAlive)
	case c.MinKeepAlive > c.MaxKeepAlive || c.MaxKeepAlive > longestKeepAlive:
		return fmt.Errorf("keep-alive from %v to %v: the first is more than the other, or that more than %v", c.MinKeepAlive, c.MaxKeepAlive, longestKeepAlive)
	}
	return nil
}

// forever is the time of who set no limit; 146 years do not overflow.
const forever = time.Duration(1 << 62)

// Broker is the rooms and everyone in them.
type Broker struct {
	Config
	engine   *mqtt.Server
	outside  *outside
	limits   guard.Limits
	rooms    sync.Map                  // string to *room
	watchers atomic.Pointer[[]*member] // who subscribed across rooms
	conns    atomic.Uint64             // names connections
	draining atomic.Bool               // connections that end are no news any more

	mu       sync.Mutex // guards what follows, and changes of watchers
	clients  map[*client]struct{}
	sessions map[*Session]struct{}
	listed   map[string]int // in how many rooms a device is, or stays listed
	closed   bool
	serving  sync.WaitGroup // a ServeConn each
}

// packetsPer is how many packets of any kind go with a message of the budget.
const packetsPer = 10

// New makes a Broker. It serves nothing by itself: doors hand it connections
// (ServeConn) and sessions (Connect).
func New(c Config) (*Broker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{Config: c, clients: make(map[*client]struct{}), sessions: make(map[*Session]struct{}), listed: make(map[string]int)}
	b.watchers.Store(new([]*member))
	b.outside = newOutside(b)
	b.limits = guard.Limits{Packets: packetsPer * c.Rate, Handshake: c.Handshake, Queue: c.Queue, Queued: c.Queued, Write: c.Write, Soon: c.Soon}
	if c.MaxMessage < 1<<27 {
		// Twice the limit still reaches the room, so that its sender is told
		// which message was too long instead of being cut off.
		b.limits.Packet = 2*c.MaxMessage + 4096
	} else {
		b.limits.Packet = 1<<28 - 1 // the longest packet of MQTT
	}
	if b.engine, err = newEngine(b); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return b, nil
}

// Connect opens a session of id for the door via ("ws", "http"), whose
// deliveries go to inbox. See bridge.Bus for what the session promises.
func (b *Broker) Connect(id topics.Identity, via string, inbox Inbox) (*Session, error) {
	if err := topics.CheckName("peer", id.Name); err != nil {
		return nil, err
	}
	if b.draining.Load() {
		return nil, topics.Errorf(topics.Unavailable, "the server is shutting down")
	}
	return b.newSession(id, via, &inProcess{inbox: inbox}, nil)
}

// ServeConn speaks MQTT with the client at the other end of conn until one of
// them ends it. It closes conn.
func (b *Broker) ServeConn(conn net.Conn) {
	c := newClient(b, conn)
	b.mu.Lock()
	if b.closed || b.draining.Load() {
		b.mu.Unlock()
		c.Close()
		<-c.Done()
		return
	}
	b.clients[c] = struct{}{}
	b.serving.Add(1)
	b.mu.Unlock()
	defer b.serving.Done()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.clients, c)
	}()
	c.serve()
}

// Drain tells every MQTT client that the server is going (DISCONNECT 0x8B in
// version 5) and waits until they are gone, or until ctx ends. From then on a
// connection that ends is no news: no presence changes and no session is ended,
// since media flows from peer to peer and goes on without the server.
func (b *Broker) Drain(ctx context.Context) {
	b.draining.Store(true)
	for _, c := range b.everyone() {
		c.end(endShutdown)
	}
	gone := make(chan struct{})
	go func() {
		b.serving.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
	}
}

// Close ends every connection and waits for them. It is idempotent.
func (b *Broker) Close() error {
	b.draining.Store(true)
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	for _, c := range b.everyone() {
		c.Close()
	}
	b.serving.Wait()
	b.rooms.Range(func(_, r any) bool {
		r.(*room).stop()
		return true
	})
	return nil
}

func (b *Broker) everyone() []*client {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]*client, 0, len(b.clients))
	for c := range b.clients {
		all = append(all, c)
	}
	return all
}

// enter returns the room of that name, locked; nil if there is none and it is
// not to be made. The caller ends with [room.leave].
func (b *Broker) enter(name string, create bool) *room {
	for {
		found, ok := b.rooms.Load(name)
		if !ok {
			if !create {
				return nil
			}
			found, _ = b.rooms.LoadOrStore(name, newRoom(b, name))
		}
		r := found.(*room)
		r.mu.Lock()
		if !r.over {
			return r
		}
		r.mu.Unlock() // it ended between the two; there is another, or none
	}
}

// watch makes m the subscriber across rooms of its session; unwatch removes it.
func (b *Broker) watch(m *member) {
	b.changeWatchers(func(all []*member) []*member {
		return append(slices.DeleteFunc(all, m.sameSession), m)
	})
}

func (b *Broker) unwatch(m *member) {
	b.changeWatchers(func(all []*member) []*member {
		return slices.DeleteFunc(all, m.sameSession)
	})
}

func (b *Broker) changeWatchers(change func([]*member) []*member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := change(slices.Clone(*b.watchers.Load()))
	b.watchers.Store(&next)
}

// lost logs that a message did not reach its receiver: a call that fails for it
// is news to the operator, the rest is not.
func (b *Broker) lost(m *message, why *topics.Error) {
	level := slog.LevelDebug
	if m.Opens() || m.Type == topics.TypeAnswer {
		level = slog.LevelInfo
	}
	b.Logger.Log(context.Background(), level, "not delivered", "room", m.Room, "peer", m.Src, "to", why.To,
		"session", m.Session, "type", m.Type, "code", int(why.Code), "why", why.Message)
}
