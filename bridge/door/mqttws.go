package door

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
)

// DefaultMaxFrame is the length of the longest WebSocket message, in bytes. It
// may hold several MQTT packets, or a part of one, and is not kept in memory;
// how long a packet may be is the broker's rule.
const DefaultMaxFrame = 1 << 20

// DefaultFrames is how many frames a client may send a second.
const DefaultFrames = 500

// WebSocketConfig configures a [WebSocket].
type WebSocketConfig struct {
	Origins bridge.Origins

	// Serve serves an MQTT connection and returns when it has ended.
	Serve func(net.Conn)

	MaxFrame int64        // bytes of a WebSocket message; 0: 1 MiB, negative: no limit
	Frames   int          // frames of a client a second, of any kind; 0: 500, negative: no limit
	Logger   *slog.Logger // nil: none
}

// WebSocket takes MQTT over WebSocket (MQTT 5 and 3.1.1, section 6): binary
// messages of the subprotocol "mqtt" or "mqttv3.1".
type WebSocket struct {
	config   WebSocketConfig
	upgrader websocket.Upgrader
	wg       sync.WaitGroup // connections
	foreign  bridge.Seldom  // lines about foreign origins

	mu     sync.Mutex // guards what follows
	closed bool
	conns  map[*wsConn]struct{}
}

// MQTT returns the handler of /mqtt, which is closed by Close.
func MQTT(config WebSocketConfig) (*WebSocket, error) {
	if config.Serve == nil {
		return nil, errors.New("door: WebSocketConfig.Serve is missing")
	}
	if err := config.Origins.Validate(); err != nil {
		return nil, fmt.Errorf("door: %w", err)
	}
	if config.Frames == 0 {
		config.Frames = DefaultFrames
	}
	if config.MaxFrame == 0 {
		config.MaxFrame = DefaultMaxFrame
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &WebSocket{
		config: config,
		conns:  make(map[*wsConn]struct{}),
		upgrader: websocket.Upgrader{
			HandshakeTimeout: DefaultHandshake,
			ReadBufferSize:   1 << 10,
			WriteBufferSize:  4 << 10,
			WriteBufferPool:  new(sync.Pool),
			CheckOrigin:      func(*http.Request) bool { return true }, // done before, in words
			Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
				http.Error(w, reason.Error(), status)
			},
		},
	}, nil
}

// ServeHTTP upgrades the connection and returns; a goroutine of its own serves
// it then, so that the buffers of net/http are free.
func (h *WebSocket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this address speaks MQTT over WebSocket: connect an MQTT client to it by ws:// or wss://", http.StatusUpgradeRequired)
		return
	}
	if err := h.config.Origins.Check(r); err != nil {
		h.foreign.Log(h.config.Logger, slog.LevelInfo, "WebSocket refused", "remote", r.RemoteAddr, "error", err)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	protocol := subprotocol(r)
	if protocol == "" {
		http.Error(w, `the WebSocket must offer the subprotocol "mqtt" (or "mqttv3.1") in Sec-WebSocket-Protocol`, http.StatusBadRequest)
		return
	}
	below := connOf(r)
	if below != nil {
		if err := below.hold(clientOf(r), true); err != nil {
			bridge.Refuse(w, r, h.config.Logger, err)
			return
		}
	}
	ws, err := h.upgrader.Upgrade(w, r, http.Header{"Sec-Websocket-Protocol": {protocol}})
	if err != nil {
		if below != nil {
			below.admit() // it may go on as HTTP
		}
		h.config.Logger.Debug("WebSocket upgrade failed", "remote", r.RemoteAddr, "error", err)
		return
	}
	if h.config.MaxFrame > 0 {
		ws.SetReadLimit(h.config.MaxFrame)
	}
	c := &wsConn{ws: ws, below: below, tls: r.TLS, remote: ws.RemoteAddr(), pace: bridge.NewPace(h.config.Frames), gone: make(chan struct{})}
	c.watchControl()
	if client, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.remote = net.TCPAddrFromAddrPort(client) // that a proxy has said
	}
	if !h.enter(c) {
		c.end(websocket.CloseGoingAway)
		return
	}
	go func() { // h.wg was added to by enter
		defer h.wg.Done()
		defer h.leave(c)
		defer c.Close()
		h.config.Serve(c)
	}()
}

// Close ends every connection, and returns when they have ended. What is
// upgraded later is closed at once. It is idempotent.
func (h *WebSocket) Close() error {
	h.mu.Lock()
	h.closed = true
	for c := range h.conns {
		h.wg.Go(func() { c.end(websocket.CloseGoingAway) })
	}
	h.mu.Unlock()
	h.wg.Wait()
	return nil
}

func (h *WebSocket) enter(c *wsConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.conns[c] = struct{}{}
	h.wg.Add(1)
	return true
}

func (h *WebSocket) leave(c *wsConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

// subprotocol chooses among those that the client offers: "" if it has none of
// ours. The header may be given several times (RFC 6455, section 11.3.4).
func subprotocol(r *http.Request) string {
	var offered []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			offered = append(offered, strings.TrimSpace(p))
		}
	}
	for _, ours := range []string{"mqtt", "mqttv3.1"} {
		if slices.Contains(offered, ours) {
			return ours
		}
	}
	return ""
}

// closeWait bounds the writing of a close frame.
const closeWait = time.Second
