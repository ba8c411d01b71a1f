package whip

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// Config is what the door needs. Connect and Authenticate are required.
type Config struct {
	Connect      bridge.Connect
	Authenticate bridge.Authenticate
	Origins      bridge.Origins // those of Dev count; otherwise pages of any site may
	Root         topics.Root    // default: topics.DefaultRoot

	MaxMessage int           // bytes of the longest body, default 64 KiB, negative: no limit
	Joins      int           // sessions that an account opens a second, default 10, negative: no limit
	Requests   int           // PATCHes of an account a second, and four times as many at once, default 500, negative: no limit
	Deadline   time.Duration // time for an answer in all, default 7 s: OBS gives up at 8
	Strict     bool          // PATCH needs If-Match (RFC 9725, 4.3.1), which real clients leave out

	// Hold counts the connection of a request among those that are not authenticated,
	// until admit is called; the error is why there is no place. Nil: nobody counts.
	Hold func(*http.Request) (admit func(), err error)

	Logger *slog.Logger // default: slog.Default()
}

// Handler is the door: an [http.Handler] for /whep/ and /whip/.
type Handler struct {
	cfg     Config
	joins   *bridge.Budget
	patches *bridge.Budget
	secret  []byte          // marks are made with it
	life    context.Context // ends with the handler
	kill    context.CancelFunc

	leaving sync.WaitGroup // sessions that take leave of the bus
	mu      sync.Mutex     // guards what follows; taken with the lock of a session held, never the other way
	open    map[string]*session
	drained bool // no more sessions
	closed  bool
}

// New returns the door. The error tells of everything that is wrong in cfg.
func New(cfg Config) (*Handler, error) {
	if cfg.Root == "" {
		cfg.Root = topics.DefaultRoot
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = 64 << 10
	}
	if cfg.MaxMessage < 0 {
		cfg.MaxMessage = math.MaxInt32
	}
	if cfg.Joins == 0 {
		cfg.Joins = 10
	}
	if cfg.Requests == 0 {
		cfg.Requests = 500 // as of frames
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = 7 * time.Second
	}
	if cfg.Hold == nil {
		cfg.Hold = func(*http.Request) (func(), error) { return func() {}, nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	var wrong []error
	if cfg.Connect == nil {
		wrong = append(wrong, errors.New("there is no Connect: sessions need a bus"))
	}
	if cfg.Authenticate == nil {
		wrong = append(wrong, errors.New("there is no Authenticate: sessions need an identity"))
	}
	if cfg.Deadline < 0 {
		wrong = append(wrong, errors.New("negative Deadline"))
	}
	if err := errors.Join(append(wrong, cfg.Origins.Validate(), cfg.Root.Check())...); err != nil {
		return nil, err
	}
	h := &Handler{
		cfg: cfg, secret: []byte(rand.Text()), open: make(map[string]*session),
		joins:   bridge.NewBudget(cfg.Joins, cfg.Joins, fmt.Sprintf("opens more than %d sessions a second", cfg.Joins)),
		patches: bridge.NewBudget(cfg.Requests, 4*cfg.Requests, fmt.Sprintf("sends more than %d PATCHes a second", cfg.Requests)),
	}
	h.life, h.kill = context.WithCancel(context.Background())
	return h, nil
}

// What bodies are called (RFC 8866, 9; RFC 8840, 9).
const (
	typeSDP      = "application/sdp"
	typeFragment = "application/trickle-ice-sdpfrag"
)

// ServeHTTP serves the endpoints, /{kind}/{room}/{peer}, and the sessions behind
// them, /{kind}/{room}/{peer}/{key}.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	err := h.origin(w, r)
	if err == nil {
		err = h.serve(w, r)
	}
	if err != nil {
		bridge.Refuse(w, r, h.cfg.Logger, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if len(path) != 3 && len(path) != 4 || path[0] != "whep" && path[0] != "whip" {
		return topics.Errorf(topics.NotFound, "there is nothing here; it takes /whep/{room}/{peer} or /whip/{room}/{peer}")
	}
	kind, room, device := path[0], path[1], path[2]
	if err := errors.Join(topics.CheckName("room", room), topics.CheckName("peer", device)); err != nil {
		return topics.AsError(err)
	}
	if len(path) == 3 {
		return h.endpoint(w, r, kind, room, device)
	}
	return h.resource(w, r, r.URL.Path)
}

// notAllowed is for the methods that a path does not have.
func notAllowed(w http.ResponseWriter, r *http.Request, allow, what string) error {
	w.Header().Set("Allow", allow)
	return bridge.Refused(http.StatusMethodNotAllowed, "%s is not for %s, it takes %s", bridge.Excerpt(r.Method), what, allow)
}

// unprocessable is for what is well-formed, but cannot be used (422).
func unprocessable(format string, args ...any) error {
	return bridge.Refused(http.StatusUnprocessableEntity, format, args...)
}

// body reads the body of a request, which must be of that type.
func (h *Handler) body(ctx context.Context, w http.ResponseWriter, r *http.Request, kind string) (string, error) {
	text, err := bridge.Body(ctx, w, r, kind, h.cfg.MaxMessage)
	if err != nil && h.life.Err() != nil {
		err = errClosing
	}
	return string(text), err
}

// identify finds out whose credentials are shown, while the connection counts among
// those that are not authenticated.
func (h *Handler) identify(ctx context.Context, r *http.Request, shown topics.Credentials) (topics.Identity, error) {
	admit, err := h.cfg.Hold(r)
	if err != nil {
		return topics.Identity{}, err
	}
	defer admit()
	return h.cfg.Authenticate(ctx, shown)
}

// mark tells whether credentials are the same as others, and nothing else of them.
func (h *Handler) mark(c topics.Credentials) (mark [sha256.Size]byte) {
	mac := hmac.New(sha256.New, h.secret)
	for _, part := range []string{c.Token, c.Username, c.Password} {
		sum := sha256.Sum256([]byte(part))
		mac.Write(sum[:])
	}
	for _, certificate := range c.TLS[:min(1, len(c.TLS))] {
		mac.Write(certificate.Raw)
	}
	return [sha256.Size]byte(mac.Sum(nil))
}

// add takes note of a session that was answered, by which its URL is there.
func (h *Handler) add(s *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.open[s.path] = s
	return true
}

// forget is called when a session has ended, with its lock held. With later it is
// on the bus still, and cannot leave it here.
func (h *Handler) forget(s *session, later func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, s.path)
	if later != nil && !h.closed { // Close sees to it otherwise
		h.leaving.Go(later)
	}
}

func (h *Handler) find(path string) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open[path]
}

// Knows reports whether a request is of a session that is open.
func (h *Handler) Knows(r *http.Request) bool { return h.find(r.URL.Path) != nil }

// Sessions is how many are open.
func (h *Handler) Sessions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

// Drain opens no more sessions. Those that are open go on, and so do requests: what
// flows from peer to peer needs no server.
func (h *Handler) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drained = true
}

func (h *Handler) isDrained() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.drained
}

// Close lets go of all sessions without a word to their devices, ends requests that
// wait, and takes no more. It is idempotent.
func (h *Handler) Close() {
	h.mu.Lock()
	h.drained, h.closed = true, true
	all := make([]*session, 0, len(h.open))
	for _, s := range h.open {
		all = append(all, s)
	}
	h.mu.Unlock()
	h.kill()
	for _, s := range all {
		s.over(errClosing)
		s.bus.Close(false)
	}
	h.leaving.Wait()
}

var errClosing = topics.Errorf(topics.Unavailable, "the server is going away")
