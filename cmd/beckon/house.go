package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/door"
	"github.com/beckon-rtc/beckon/bridge/rest"
	"github.com/beckon-rtc/beckon/bridge/whip"
	"github.com/beckon-rtc/beckon/bridge/ws"
	"github.com/beckon-rtc/beckon/broker"
	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

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
	refusals *refusals
	turns    *bridge.Turns // to write, of all connections
	draining atomic.Bool   // /readyz says 503

	authenticate bridge.Authenticate // by the accounts
	arrive       bridge.Authenticate // the same of who opens a connection, not too often for one identity

	life context.Context // ends with close
	end  context.CancelFunc
}

// house puts the parts together, each over those before it.
func (s *serve) house(stderr io.Writer) (*house, error) {
	h := &house{log: s.logger(stderr), turns: bridge.NewTurns()}
	h.life, h.end = context.WithCancel(context.Background())
	h.overload, h.refusals = newOverload(h.log, int64(s.LimitQueues)), newRefusals(h.log)
	buildTLS := func(h *house) error { return s.buildTLS(h, stderr) }
	for _, build := range []func(*house) error{
		s.buildAccounts, buildTLS, s.buildICE, s.buildBroker, s.buildWS, s.buildWHIP, s.buildREST, s.buildMQTT, s.buildDoor,
	} {
		if err := build(h); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	return h, nil
}

// buildAccounts makes what knows who a client is.
func (s *serve) buildAccounts(h *house) error {
	if s.Dev {
		h.authenticate = auth.Dev
		h.arrive = paced(h.authenticate, s.LimitConnectsPerIdentity)
		return nil
	}
	known, err := auth.New(s.authConfig(h.log))
	if err != nil {
		return usage(err)
	}
	h.accounts = &accounts{Auth: known, refusals: h.refusals}
	h.authenticate = h.accounts.authenticate
	h.arrive = paced(h.authenticate, s.LimitConnectsPerIdentity)
	return nil
}

func (s *serve) buildTLS(h *house, stderr io.Writer) (err error) {
	if h.tls, err = s.encryption(h.life, s.Listen, h.log, stderr); err != nil {
		return usage(err)
	}
	return nil
}

func (s *serve) buildICE(h *house) (err error) {
	h.ice, err = s.iceSettings.start(h.tls.bare(), h.log)
	return err
}

func (s *serve) buildBroker(h *house) (err error) {
	config := broker.Config{
		Root:         topics.Root(s.Root),
		Authenticate: h.refusals.of("mqtt", h.arrive),
		ICEServers:   h.ice.ICEServers,
		Grace:        period(s.Grace),
		MinKeepAlive: period(s.KeepAliveMin),
		MaxKeepAlive: period(s.KeepAliveMax),
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
		Queued:       &h.overload.queued,
		Soon:         h.turns.Soon,
		Logger:       h.log,
	}
	if h.accounts != nil {
		config.Still = h.accounts.Recheck
	}
	if s.WakeURL != "" {
		h.waker = newWaker(s.WakeURL, s.Hold, h.log)
		config.Wake = h.waker.wake
	}
	if h.broker, err = broker.New(config); err != nil {
		return err
	}
	if h.accounts != nil {
		h.accounts.broker, h.accounts.ice = h.broker, h.ice
	}
	return nil
}

func (s *serve) buildWS(h *house) (err error) {
	config := ws.Config{
		Connect:      h.connect,
		Authenticate: h.refusals.of("ws", h.arrive),
		Renew:        renew,
		Resume:       s.resumeWithin(),
		Hold:         door.Hold,
		Origins:      s.origins(),
		Root:         topics.Root(s.Root),
		MaxMessage:   limit(s.LimitMessage),
		Queue:        limit(s.LimitQueue),
		MaxRooms:     limit(s.LimitRooms),
		Frames:       budget(framesPer * s.LimitRate),
		Queued:       &h.overload.queued,
		Soon:         h.turns.Soon,
		Logger:       h.log,
	}
	if h.accounts != nil {
		config.Refresh = h.accounts.refresh
	}
	h.ws, err = ws.New(config)
	return err
}

func (s *serve) buildWHIP(h *house) (err error) {
	h.whip, err = whip.New(whip.Config{
		Connect:      h.connect,
		Authenticate: h.refusals.of("whip", h.authenticate),
		Origins:      s.origins(),
		Root:         topics.Root(s.Root),
		MaxMessage:   limit(s.LimitMessage),
		Joins:        budget(s.LimitJoins),
		Requests:     budget(framesPer * s.LimitRate),
		Strict:       s.WhipStrict,
		Hold:         door.HoldRequest,
		Logger:       h.log,
	})
	return err
}

func (s *serve) buildREST(h *house) (err error) {
	h.rest, err = rest.New(rest.Config{
		Connect:      h.connect,
		Authenticate: h.refusals.of("http", h.authenticate),
		Arrive:       h.refusals.of("http", h.arrive),
		Renew:        renew,
		Rooms:        h.broker.Rooms,
		Peers:        h.broker.Peers,
		Hold:         door.Hold,
		HoldRequest:  door.HoldRequest,
		Origins:      s.origins(),
		Root:         topics.Root(s.Root),
		MaxMessage:   limit(s.LimitMessage),
		Requests:     budget(framesPer * s.LimitRate),
		Queue:        limit(s.LimitQueue),
		Queued:       &h.overload.queued,
		Logger:       h.log,
	})
	return err
}

// buildMQTT makes the door of MQTT over WebSocket.
func (s *serve) buildMQTT(h *house) (err error) {
	h.mqtt, err = door.MQTT(door.WebSocketConfig{
		Origins:  s.origins(),
		Serve:    h.broker.ServeConn,
		MaxFrame: s.maxFrame(),
		Frames:   budget(framesPer * s.LimitRate),
		Logger:   h.log,
	})
	return err
}

func (s *serve) buildDoor(h *house) error {
	proxies, err := s.trustedProxies()
	if err != nil {
		return usage(err)
	}
	config := door.Config{
		MQTT:                      h.broker.ServeConn,
		HTTP:                      h.routes(s.origins()),
		TLS:                       h.tls.config,
		TLSOnly:                   s.TLSOnly,
		Plain:                     h.tls.plain,
		TrustedProxies:            proxies,
		Bytes:                     budget(int(s.LimitBytes)),
		Requests:                  budget(framesPer * s.LimitRate),
		Admit:                     h.overload.admit,
		Connects:                  budget(s.LimitConnects),
		ConnectsPerAddress:        budget(s.LimitConnectsPerAddress),
		Unauthenticated:           limit(s.LimitUnauthenticated),
		UnauthenticatedPerAddress: limit(s.LimitUnauthenticatedPerAddress),
		Logger:                    h.log,
	}
	if config.TLS != nil && h.accounts != nil {
		config.TLS = h.accounts.TLS(config.TLS) // which asks for client certificates
	}
	h.door, err = door.New(config)
	return err
}

// framesPer is how many frames, or requests, of any kind go with a message of the
// budget.
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
	looking.Go(func() { h.broker.WatchClock(ctx) })
	looking.Go(func() { new(tidy).run(ctx) })
	looking.Go(func() { h.overload.run(ctx) })
	looking.Go(func() { h.tls.run(ctx) })
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
