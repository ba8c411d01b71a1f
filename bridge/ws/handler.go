package ws

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// Config is what the door needs. Connect and Authenticate are required. Of every
// number zero stands for the default, a negative limit for none.
type Config struct {
	Connect      bridge.Connect
	Authenticate bridge.Authenticate
	Origins      bridge.Origins
	Root         topics.Root // default: topics.DefaultRoot

	MaxMessage int           // bytes of the longest frame, default 64 KiB
	Queue      int           // bytes that may wait for a client, default 1 MiB
	MaxRooms   int           // rooms of a connection, default 32
	Frames     int           // frames of a client a second, of any kind, default 500
	Join       time.Duration // time for the first join, default 10 s
	Ping       time.Duration // time between pings, default 20 s
	Write      time.Duration // time a write may wait, default 5 s
	Resume     time.Duration // time to resume a session, for clients that can; default 30 s

	// Renew gives a session that is resumed the identity of its new connection.
	Renew func(bridge.Bus, topics.Identity) error

	// Refresh takes a new token for a session; without it clients are told to
	// connect again.
	Refresh func(context.Context, bridge.Bus, topics.Credentials) error

	// Hold counts the connection of an upgrade among those that are not
	// authenticated, until admit is called; the error is why it cannot come. Nil:
	// nobody counts.
	Hold func(*http.Request) (admit func(), err error)

	// Queued is where the bytes are counted that clients have not got. Nil: nowhere.
	Queued *atomic.Int64

	// Soon has a connection's turn to write called soon, see [bridge.Turns]. Default: on a
	// goroutine of its own.
	Soon func(turn func())

	Logger *slog.Logger // default: slog.Default()
}

// Handler is the door: an [http.Handler] for /ws.
type Handler struct {
	cfg      Config
	bridge   bridge.Config
	upgrader websocket.Upgrader
	life     context.Context // ends with the handler
	kill     context.CancelFunc
	frames   sync.Pool     // of *incoming, for frames being read
	reads    sync.Pool     // of *[]byte of length bridge.Chunk, for what was read
	writes   sync.Pool     // of *[]byte, for what is being written
	foreign  bridge.Seldom // lines about foreign origins

	running sync.WaitGroup // connections
	mu      sync.Mutex
	closing bool // no more connections
	conns   map[*conn]struct{}
}

var goingAway = ending{code: topics.Unavailable.Close(), why: "the server is going away"}

// New returns the door. The error tells of everything that is wrong in cfg.
func New(cfg Config) (*Handler, error) {
	cfg = cfg.withDefaults()
	h := &Handler{cfg: cfg, conns: map[*conn]struct{}{}, bridge: bridge.Config{
		Connect: cfg.Connect, Authenticate: cfg.Authenticate, Refresh: cfg.Refresh, Queue: cfg.Queue, Queued: cfg.Queued, Renew: cfg.Renew, Resume: cfg.Resume,
		Root: cfg.Root, Via: "ws", MaxRooms: cfg.MaxRooms, Ping: cfg.Ping, Logger: cfg.Logger,
	}}
	if err := errors.Join(h.bridge.Check(), cfg.Origins.Validate(), cfg.check()); err != nil {
		return nil, err
	}
	h.upgrader = websocket.Upgrader{
		ReadBufferSize: 0, // the reader is the hijacker's
		// Of the pool's buffers, which no idle connection has.
		WriteBufferSize: 1024,
		WriteBufferPool: new(sync.Pool),
		CheckOrigin:     func(*http.Request) bool { return true }, // done before
		Error: func(w http.ResponseWriter, _ *http.Request, status int, why error) {
			w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455, 4.4
			http.Error(w, strings.TrimPrefix(why.Error(), "websocket: "), status)
		},
	}
	h.frames.New = func() any { return new(incoming) }
	h.reads.New = func() any { b := make([]byte, bridge.Chunk); return &b }
	h.writes.New = func() any { b := make([]byte, 0, 4096); return &b }
	h.life, h.kill = context.WithCancel(context.Background())
	return h, nil
}

func (c Config) withDefaults() Config {
	limit := func(n *int, usual, none int) {
		if *n == 0 {
			*n = usual
		} else if *n < 0 {
			*n = none
		}
	}
	limit(&c.MaxMessage, 64<<10, unlimited)
	limit(&c.Queue, 1<<20, unlimited)
	limit(&c.MaxRooms, 32, 0)
	limit(&c.Frames, 500, -1)
	wait := func(d *time.Duration, usual time.Duration) {
		if *d == 0 {
			*d = usual
		}
	}
	wait(&c.Join, 10*time.Second)
	wait(&c.Ping, 20*time.Second)
	wait(&c.Write, 5*time.Second)
	if c.Root == "" {
		c.Root = topics.DefaultRoot
	}
	if c.Soon == nil {
		c.Soon = func(turn func()) { go turn() }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// unlimited is far beyond anything, and can be multiplied by farTooLong.
const unlimited = math.MaxInt / (2 * farTooLong)

func (c Config) check() error {
	var wrong []error
	if c.Join < 0 {
		wrong = append(wrong, errors.New("negative Join"))
	}
	if c.Ping < 0 {
		wrong = append(wrong, errors.New("negative Ping"))
	}
	if c.Write < 0 {
		wrong = append(wrong, errors.New("negative Write"))
	}
	return errors.Join(wrong...)
}

// ServeHTTP upgrades, and returns; the connection goes on by itself.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.isClosing() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the server is going away", http.StatusServiceUnavailable)
		return
	}
	if err := h.cfg.Origins.Check(r); err != nil {
		e := topics.AsError(err)
		h.foreign.Log(h.cfg.Logger, slog.LevelInfo, "websocket refused", "remote", r.RemoteAddr, "why", e.Message)
		http.Error(w, e.Message, e.Code.HTTP())
		return
	}
	admit := func() {}
	if h.cfg.Hold != nil {
		var err error
		if admit, err = h.cfg.Hold(r); err != nil {
			h.cfg.Logger.Debug("websocket refused", "remote", r.RemoteAddr, "why", err) // a flood of them is warned of elsewhere
			bridge.Refuse(w, r, h.cfg.Logger, err)
			return
		}
	}
	wire := &wire{timeout: h.cfg.Write, pool: &h.writes, reads: &h.reads}
	ws, err := h.upgrader.Upgrade(hijacker{w, wire}, r, nil)
	if err != nil {
		admit() // it was answered, and may go on as HTTP
		return
	}
	if err := wire.flush(); err != nil {
		wire.Close()
		return
	}
	h.start(h.newConn(ws, wire, bridge.Credentials(r), admit))
}

// start runs c, unless the handler has been closed meanwhile.
func (h *Handler) start(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		c.timer.Stop()
		c.wire.Close()
		return
	}
	h.conns[c] = struct{}{}
	h.running.Add(1)
	go c.run() // which forgets it
}

// forget is called when nothing of c is left.
func (h *Handler) forget(c *conn) {
	defer h.running.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

func (h *Handler) isClosing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closing
}

// Drain takes no more connections, tells the clients to go elsewhere, each
// within a time of its own, and closes them then. It returns when all are gone,
// or ctx is done; then it closes the rest, too, and returns the reason.
func (h *Handler) Drain(ctx context.Context) error {
	conns := h.stop()
	spread := bridge.NewSpread(bridge.DrainTime(ctx), len(conns))
	for i, c := range conns {
		c.leave(spread.Of(i))
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		h.running.Wait()
	}()
	select {
	case <-gone:
		h.kill()
		return nil
	case <-ctx.Done():
		h.Close()
		<-gone
		return ctx.Err()
	}
}

// Close closes all connections, takes no more, and waits until they are gone:
// a second at most for those which do not answer.
func (h *Handler) Close() {
	conns := h.stop()
	h.kill()
	for _, c := range conns {
		c.finish(goingAway, true)
	}
	hard := time.AfterFunc(lingerFor, func() {
		for _, c := range conns {
			c.wire.Close()
		}
	})
	defer hard.Stop()
	h.running.Wait()
	h.bridge.Close()
}

// stop takes no more connections, and returns those that are there.
func (h *Handler) stop() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closing = true
	conns := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	return conns
}
