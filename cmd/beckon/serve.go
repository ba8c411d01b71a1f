package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/door"
	"github.com/beckon-rtc/beckon/bridge/rest"
	"github.com/beckon-rtc/beckon/bridge/whip"
	"github.com/beckon-rtc/beckon/bridge/ws"
	"github.com/beckon-rtc/beckon/broker"
	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// Run is the command: it serves until SIGINT or SIGTERM.
func (s *serve) Run(out output) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals, reload := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(reload, syscall.SIGHUP)
	var obeying sync.WaitGroup
	obeying.Go(func() {
		obey(signals, stop, func() {
			fmt.Fprintln(out.stderr, "beckon: a second signal: leaving at once")
			os.Exit(exitFailed)
		})
	})
	defer func() {
		signal.Stop(signals)
		signal.Stop(reload)
		close(signals)
		obeying.Wait()
	}()
	return s.serve(ctx, out.stderr, reload, nil)
}

// obey stops the server at the first signal, and leaves at the second. It ends
// with the signals.
func obey(signals <-chan os.Signal, stop, leave func()) {
	if _, ok := <-signals; !ok {
		return
	}
	stop()
	if _, ok := <-signals; ok {
		leave()
	}
}

// serve runs the server until ctx is done, and drains it then. At each reload it
// reads its files again. It calls ready, which may be nil, with the addresses
// when it takes connections.
func (s *serve) serve(ctx context.Context, stderr io.Writer, reload <-chan os.Signal, ready func([]net.Addr)) error {
	if err := s.check(); err != nil {
		return usage(err)
	}
	listeners, err := listen(s.Listen)
	if err != nil {
		return err
	}
	h, err := s.house(stderr)
	if err != nil {
		closeAll(listeners)
		return err
	}
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() { h.door.Serve(l) })
	}
	if s.Dev {
		fmt.Fprintln(stderr, "WARNING: --dev lets anyone on this machine in, without credentials, under any name and into any room. "+
			"It is for trying things out: put no proxy in front of it.")
	}
	addrs := addresses(listeners)
	if open := s.inTheClear(addrs); open != nil {
		fmt.Fprintf(stderr, "WARNING: passwords and tokens can come unencrypted over the network to %s, for everyone on the way to read. "+
			"Configure TLS (--tls-cert and --tls-key, or --acme) and --tls-only, or listen on loopback, behind a proxy that takes TLS.\n", strings.Join(open, ", "))
	}
	fmt.Fprintln(stderr, readyLine(addrs, s.any(), s.TLSOnly))
	if ready != nil {
		ready(addrs)
	}
	h.live(ctx, reload)

	h.draining.Store(true) // the listeners stay open, for /readyz to say so
	most := s.Drain
	if s.Dev {
		most = min(most, time.Second) // no crowd that must not come back all at once
	}
	h.log.Info("stopping", "at most", most)
	limit, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	h.drain(limit)
	closeAll(listeners)
	err = h.close()
	serving.Wait()
	return err
}

// house is the parts of a server.
type house struct {
	log      *slog.Logger
	broker   *broker.Broker
	mqtt     *door.WebSocket // MQTT over WebSocket
	ws       *ws.Handler     // JSON over WebSocket
	whip     *whip.Handler   // WHIP and WHEP
	rest     *rest.Handler   // event streams and messages, over HTTP
	door     *door.Door
	accounts *accounts // nil with --dev
	tls      *encryption
	ice      *ice
	waker    *waker // nil without --wake-url
	overload *overload
	draining atomic.Bool // /readyz says 503

	life context.Context // ends with close
	end  context.CancelFunc
}

// house puts the parts together.
func (s *serve) house(stderr io.Writer) (_ *house, err error) {
	h := &house{log: s.logger(stderr)}
	h.life, h.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	var still func(topics.Identity) (topics.Identity, error)
	authenticate, refresh := auth.Dev, (func(context.Context, bridge.Bus, topics.Credentials) error)(nil)
	if !s.Dev {
		known, err := auth.New(s.authConfig(h.log))
		if err != nil {
			return nil, usage(err)
		}
		h.accounts = &accounts{Auth: known}
		authenticate, refresh = h.accounts.Authenticate, h.accounts.refresh
		still = h.accounts.Auth.Recheck
	}
	if h.tls, err = s.encryption(h.life, s.Listen, h.log, stderr); err != nil {
		return nil, usage(err)
	}
	if h.ice, err = s.iceSettings.start(h.tls.bare(), h.log); err != nil {
		return nil, err
	}
	if h.tls.config != nil && h.accounts != nil {
		h.tls.config = h.accounts.TLS(h.tls.config)
	}
	h.overload = newOverload(h.log, int64(s.LimitQueues))
	authenticate = paced(authenticate, s.LimitConnectsPerIdentity)
	root := topics.Root(s.Root)
	var wake func(room, peer, from, session string)
	if s.WakeURL != "" {
		h.waker = newWaker(s.WakeURL, h.log)
		wake = h.waker.wake
	}
	h.broker, err = broker.New(broker.Config{
		Root:         root,
		Authenticate: authenticate,
		Still:        still,
		ICEServers:   h.ice.ICEServers,
		Grace:        period(s.Grace),
		MaxMessage:   limit(s.LimitMessage),
		Queue:        limit(s.LimitQueue),
		Rate:         budget(s.LimitRate),
		Burst:        limit(s.LimitBurst),
		Joins:        budget(s.LimitJoins),
		MaxSessions:  limit(s.LimitSessions),
		MaxPeers:     limit(s.LimitPeers),
		MaxRooms:     limit(s.LimitRooms),
		MaxHeld:      limit(s.LimitHeld),
		Hold:         period(s.Hold),
		Wake:         wake,
		Queued:       &h.overload.queued,
		Logger:       h.log,
	})
	if err != nil {
		return nil, err
	}
	if h.accounts != nil {
		h.accounts.broker, h.accounts.ice = h.broker, h.ice
	}
	h.ws, err = ws.New(ws.Config{
		Connect:      h.connect,
		Authenticate: authenticate,
		Refresh:      refresh,
		Renew:        renew,
		Resume:       period(s.Resume),
		Hold:         door.Hold,
		Origins:      s.origins(),
		Root:         root,
		MaxMessage:   limit(s.LimitMessage),
		Queue:        limit(s.LimitQueue),
		MaxRooms:     limit(s.LimitRooms),
		Frames:       budget(framesPer * s.LimitRate),
		Queued:       &h.overload.queued,
		Logger:       h.log,
	})
	if err != nil {
		return nil, err
	}
	h.whip, err = whip.New(whip.Config{
		Connect:      h.connect,
		Authenticate: authenticate,
		Origins:      s.origins(),
		Root:         root,
		MaxMessage:   limit(s.LimitMessage),
		Joins:        budget(s.LimitJoins),
		Strict:       s.WhipStrict,
		Logger:       h.log,
	})
	if err != nil {
		return nil, err
	}
	h.rest, err = rest.New(rest.Config{
		Connect:      h.connect,
		Authenticate: authenticate,
		Renew:        renew,
		Rooms:        h.broker.Rooms,
		Peers:        h.broker.Peers,
		Hold:         door.Hold,
		Origins:      s.origins(),
		Root:         root,
		MaxMessage:   limit(s.LimitMessage),
		Queue:        limit(s.LimitQueue),
		Logger:       h.log,
	})
	if err != nil {
		return nil, err
	}
	h.mqtt, err = door.MQTT(door.WebSocketConfig{
		Origins:  s.origins(),
		Serve:    h.broker.ServeConn,
		MaxFrame: s.maxFrame(),
		Frames:   budget(framesPer * s.LimitRate),
		Logger:   h.log,
	})
	if err != nil {
		return nil, err
	}
	proxies, err := s.trustedProxies()
	if err != nil {
		return nil, usage(err)
	}
	h.door, err = door.New(door.Config{
		MQTT:                      h.broker.ServeConn,
		HTTP:                      h.routes(s.origins()),
		TLS:                       h.tls.config,
		TLSOnly:                   s.TLSOnly,
		Plain:                     h.tls.plain,
		TrustedProxies:            proxies,
		Bytes:                     budget(int(s.LimitBytes)),
		Admit:                     h.overload.admit,
		Connects:                  budget(s.LimitConnects),
		ConnectsPerAddress:        budget(s.LimitConnectsPerAddress),
		Unauthenticated:           limit(s.LimitUnauthenticated),
		UnauthenticatedPerAddress: limit(s.LimitUnauthenticatedPerAddress),
		Logger:                    h.log,
	})
	return h, err
}

// framesPer is how many frames of any kind go with a message of the budget.
const framesPer = 10

// maxFrame leaves room in a WebSocket message for a packet that the broker is
// to refuse in words.
func (s *serve) maxFrame() int64 {
	if s.LimitMessage == 0 {
		return -1
	}
	return max(door.DefaultMaxFrame, 4*int64(s.LimitMessage))
}

// live looks after what changes while the server runs, until ctx is done.
func (h *house) live(ctx context.Context, reload <-chan os.Signal) {
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(h.tls.run)
	if h.accounts != nil {
		looking.Go(func() { h.accounts.run(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			h.reload()
		}
	}
}

// reload reads all files again.
func (h *house) reload() {
	err := h.tls.reload()
	if h.accounts != nil {
		err = errors.Join(err, h.accounts.Reload())
		h.accounts.recheck()
	}
	if err != nil {
		h.log.Error("reload failed", "error", err)
		return
	}
	h.log.Info("reloaded, as SIGHUP asks")
}

// connect is a bridge.Connect to the broker.
func (h *house) connect(id topics.Identity, via string, inbox bridge.Inbox) (bridge.Bus, error) {
	session, err := h.broker.Connect(id, via, inbox)
	if err != nil {
		return nil, err // and no Bus with a nil in it
	}
	return session, nil
}

// renew gives a session of connect's the identity of its new connection.
func renew(bus bridge.Bus, id topics.Identity) error { return bus.(*broker.Session).Renew(id) }

// drain tells every client that the server stops, and waits for them until ctx
// is done.
func (h *house) drain(ctx context.Context) {
	h.whip.Drain() // its sessions go on, and their requests until the door shuts
	var parts sync.WaitGroup
	parts.Go(func() { h.broker.Drain(ctx) })
	parts.Go(func() {
		if err := h.ws.Drain(ctx); err != nil {
			h.log.Warn("not all WebSocket clients left in time, the rest was cut", "error", err)
		}
	})
	parts.Go(func() {
		if err := h.rest.Drain(ctx); err != nil {
			h.log.Warn("not all event streams ended in time, the rest was cut", "error", err)
		}
	})
	parts.Wait()
	if err := h.door.Shutdown(ctx); err != nil {
		h.log.Warn("not all requests ended in time, the rest was cut", "error", err)
	}
}

// close ends the parts that there are, outermost first.
func (h *house) close() error {
	h.end()
	var errs []error
	if h.ws != nil {
		h.ws.Close()
	}
	if h.rest != nil {
		h.rest.Close()
	}
	if h.mqtt != nil {
		errs = append(errs, h.mqtt.Close())
	}
	if h.door != nil {
		errs = append(errs, h.door.Close())
	}
	if h.whip != nil {
		h.whip.Close()
	}
	if h.broker != nil {
		errs = append(errs, h.broker.Close())
	}
	if h.waker != nil {
		h.waker.close()
	}
	if h.ice != nil {
		errs = append(errs, h.ice.close())
	}
	if h.accounts != nil {
		errs = append(errs, h.accounts.Close())
	}
	return errors.Join(errs...)
}

// listen opens all addresses, or none.
func listen(addrs []string) ([]net.Listener, error) {
	var open []net.Listener
	var wrong []error
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			wrong = append(wrong, explain(addr, err))
			continue
		}
		open = append(open, l)
	}
	if len(wrong) > 0 {
		closeAll(open)
		return nil, errors.Join(wrong...)
	}
	return open, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// explain says why an address cannot be listened on, and what to do.
func explain(addr string, err error) error {
	_, port, _ := net.SplitHostPort(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		who := "lsof -nP -iTCP:" + port + " -sTCP:LISTEN"
		if runtime.GOOS == "linux" {
			who = "ss -ltnp 'sport = :" + port + "'"
		}
		return fmt.Errorf("cannot listen on %s: the port is in use; choose another with --listen, or see who has it: %s", addr, who)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s: ports below 1024 need a privilege; choose another with --listen", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot listen on %s: this machine does not have that address; choose another with --listen", addr)
	default:
		return fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
}

func addresses(listeners []net.Listener) []net.Addr {
	var addrs []net.Addr
	for _, l := range listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// readyLine is what supervisors and tests wait for.
func readyLine(addrs []net.Addr, tls, only bool) string {
	protocols, scheme := "mqtt+http+ws", "http"
	switch {
	case only:
		protocols, scheme = "mqtt+http+ws, with tls only,", "https"
	case tls:
		protocols, scheme = "mqtt+http+ws, with and without tls,", "https"
	}
	var on []string
	for _, a := range addrs {
		on = append(on, a.String())
	}
	return fmt.Sprintf("ready %s on %s; page %s://%s/", protocols, strings.Join(on, ", "), scheme, pageHost(addrs))
}

// pageHost is where to point a browser: a port that is not MQTT's own, if there
// is one.
func pageHost(addrs []net.Addr) string {
	mqtt := func(a net.Addr) bool {
		return strings.HasSuffix(a.String(), ":1883") || strings.HasSuffix(a.String(), ":8883")
	}
	at := max(0, slices.IndexFunc(addrs, func(a net.Addr) bool { return !mqtt(a) }))
	host, port, _ := net.SplitHostPort(addrs[at].String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
