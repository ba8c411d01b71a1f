package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// Config is what the door needs. Connect, Authenticate, Rooms and Peers are
// required. Of every number zero stands for the default, a negative limit for
// none.
type Config struct {
	Connect      bridge.Connect
	Authenticate bridge.Authenticate
	Arrive       bridge.Authenticate // the same of who opens a stream, which is a connection; default: Authenticate
	Origins      bridge.Origins
	Root         topics.Root // default: topics.DefaultRoot

	// Rooms says how many peers an identity may see, by room.
	Rooms func(topics.Identity) map[string]int

	// Peers returns the presences in a room that an identity may see, by name.
	Peers func(id topics.Identity, room string) ([]topics.Delivery, error)

	MaxMessage int           // bytes of the longest message, default 64 KiB
	Requests   int           // of an account a second, and four times as many at once; default 500
	Queue      int           // bytes that may wait for a stream, default 1 MiB
	Deadline   time.Duration // time for an answer in all, or until a stream begins, default 7 s: less than the door gives one
	Heartbeat  time.Duration // time between comments on a stream, default 15 s
	Write      time.Duration // time a write may wait, default 5 s
	Taken      time.Duration // time after which what was written counts as taken, default 2 s

	// Queued is where the bytes are counted that clients have not got. Nil: nowhere.
	Queued *atomic.Int64

	// Renew gives a session that is resumed the identity of its new connection.
	Renew func(bridge.Bus, topics.Identity) error

	// Hold counts the connection of a stream among those that are not authenticated,
	// until admit is called; the error is why it cannot come. HoldRequest does so for
	// any other request, which is no new connection. Nil: nobody counts.
	Hold, HoldRequest func(*http.Request) (admit func(), err error)

	Logger *slog.Logger // default: slog.Default()
}

// Handler is the door: an [http.Handler] for /api/v1/.
type Handler struct {
	cfg    Config
	bridge bridge.Config
	mux    *http.ServeMux
	budget *bridge.Budget  // of requests
	life   context.Context // ends with the handler
	kill   context.CancelFunc

	running  sync.WaitGroup // streams
	mu       sync.Mutex     // guards what follows
	closing  bool           // no more streams
	window   time.Duration  // of a drain, and its end
	over     time.Time
	streams  map[*stream]struct{}
	byPeer   map[place]*stream    // the newest of each
	replaced map[string]time.Time // keys of sessions that were taken over, until then
}

// place is a peer in a room.
type place struct{ room, peer string }

// New returns the door. The error tells of everything that is wrong in cfg.
func New(cfg Config) (*Handler, error) {
	cfg = cfg.withDefaults()
	h := &Handler{
		cfg: cfg, streams: make(map[*stream]struct{}), byPeer: make(map[place]*stream), replaced: make(map[string]time.Time),
		bridge: bridge.Config{
			Connect: cfg.Connect, Authenticate: cfg.Arrive, Queued: cfg.Queued, Renew: cfg.Renew, Queue: cfg.Queue,
			Resume: -1, // the grace: section 3
			Root:   cfg.Root, Via: "http", MaxRooms: 1, Ping: cfg.Heartbeat, Logger: cfg.Logger,
		},
	}
	if err := errors.Join(h.bridge.Check(), cfg.Origins.Validate(), cfg.check()); err != nil {
		return nil, err
	}
	h.budget = bridge.NewBudget(cfg.Requests, 4*cfg.Requests,
		fmt.Sprintf("sends more than %d requests a second, of which one for who is there counts as %d", cfg.Requests, aLookUp))
	h.life, h.kill = context.WithCancel(context.Background())
	h.mux = http.NewServeMux()
	for _, r := range h.routes() {
		h.mux.Handle(r.path, r)
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		bridge.Refuse(w, r, h.cfg.Logger, topics.Errorf(topics.NotFound, "there is nothing here; it takes /api/v1/rooms, and /peers, /peers/{me}/events and /peers/{me}/messages of a room"))
	})
	return h, nil
}

func (c Config) withDefaults() Config {
	limit := func(n *int, usual int) {
		if *n == 0 {
			*n = usual
		} else if *n < 0 {
			*n = math.MaxInt32
		}
	}
	limit(&c.MaxMessage, 64<<10)
	limit(&c.Queue, 1<<20)
	if c.Requests == 0 {
		c.Requests = 500 // as of frames
	}
	if c.Requests > 0 && c.Requests < aLookUp {
		c.Requests = aLookUp
	}
	wait := func(d *time.Duration, usual time.Duration) {
		if *d == 0 {
			*d = usual
		}
	}
	wait(&c.Deadline, 7*time.Second)
	wait(&c.Heartbeat, 15*time.Second)
	wait(&c.Write, 5*time.Second)
	wait(&c.Taken, 2*time.Second)
	if c.Arrive == nil {
		c.Arrive = c.Authenticate
	}
	free := func(*http.Request) (func(), error) { return func() {}, nil }
	if c.Hold == nil {
		c.Hold = free
	}
	if c.HoldRequest == nil {
		c.HoldRequest = free
	}
	if c.Root == "" {
		c.Root = topics.DefaultRoot
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) check() error {
	var wrong []error
	if c.Authenticate == nil {
		wrong = append(wrong, errors.New("there is no Authenticate: requests need an identity"))
	}
	if c.Rooms == nil || c.Peers == nil {
		wrong = append(wrong, errors.New("there is no Rooms or no Peers: nobody could see who is there"))
	}
	if c.Deadline < 0 || c.Heartbeat < 0 || c.Write < 0 || c.Taken < 0 {
		wrong = append(wrong, errors.New("negative Deadline, Heartbeat, Write or Taken"))
	}
	return errors.Join(wrong...)
}

// ServeHTTP serves everything below /api/v1/.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := h.origin(w, r); err != nil {
		bridge.Refuse(w, r, h.cfg.Logger, err)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// Routes are the patterns of the paths that there are.
func (h *Handler) Routes() []string {
	var paths []string
	for _, r := range h.routes() {
		paths = append(paths, r.path)
	}
	return paths
}

// What requests take from the budget of their account. A message is a frame here,
// and pays as a message on the bus, out of the budget of its stream. Who is there
// is asked of nobody but the door, and costs what ten frames may.
const (
	aMessage = 1
	aLookUp  = 10
)

// identify finds out who asks, that would like that name, and takes what the request
// costs from its budget.
func (h *Handler) identify(ctx context.Context, r *http.Request, name string, cost int) (topics.Identity, error) {
	id, err := h.authenticate(ctx, r, name)
	if err != nil {
		return id, err
	}
	return id, h.budget.Spend(ctx, id.Name, cost)
}

// authenticate finds out who asks, while the connection counts among those who are
// not authenticated.
func (h *Handler) authenticate(ctx context.Context, r *http.Request, name string) (topics.Identity, error) {
	admit, err := h.cfg.HoldRequest(r)
	if err != nil {
		return topics.Identity{}, err
	}
	defer admit()
	shown := bridge.Credentials(r)
	shown.Name = name
	return h.cfg.Authenticate(ctx, shown)
}

// enter takes note of a stream that is open. What its peer says is said by it, until
// there is a newer one.
func (h *Handler) enter(s *stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return false
	}
	h.streams[s] = struct{}{}
	if !s.queue.isOver() { // taken over, maybe, by one that was here first
		h.byPeer[s.place] = s
	}
	h.running.Add(1)
	return true
}

func (h *Handler) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, s)
	if h.byPeer[s.place] == s {
		delete(h.byPeer, s.place)
	}
	h.running.Done()
}

func (h *Handler) find(p place) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byPeer[p]
}

// Knows reports whether a request is a message of a peer that has a stream open, as far
// as its path says.
func (h *Handler) Knows(r *http.Request) bool {
	if is, _ := path.Match("/api/v1/rooms/*/peers/*/messages", r.URL.Path); !is || r.Method != http.MethodPost {
		return false
	}
	names := strings.Split(r.URL.Path, "/")
	return h.find(place{room: names[4], peer: names[6]}) != nil
}

// Streams is how many are open.
func (h *Handler) Streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}
