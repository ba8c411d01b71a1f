package main

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/ws"
	"github.com/beckon-rtc/beckon/broker"
	"github.com/beckon-rtc/beckon/topics"
)

// pipes is a server without sockets, on fake time.
type pipes struct {
	broker  *broker.Broker
	door    *ws.Handler
	server  *http.Server
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	may     map[place]bool
	revoked string
}

// know says what the accounts are from now on.
func (s *pipes) know(may map[place]bool, revoked string) {
	s.mu.Lock()
	s.may, s.revoked = maps.Clone(may), revoked
	s.mu.Unlock()
	s.broker.Recheck()
}

func (s *pipes) await(is func() bool)       { synctest.Wait(); is() }
func (s *pipes) flush(*party)               {}
func (s *pipes) cutOff(_ *play, one *party) { one.c.line.cut() }

func (s *pipes) identity(name string) (topics.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := topics.Identity{Name: name, Device: name == "cam"}
	switch name {
	case s.revoked:
		return id, topics.Errorf(topics.Unauthorized, "%s is not known any more", name)
	case "observer":
		id.Grants = []topics.Grant{{Room: "*", Role: topics.Observer}}
	}
	for at, may := range s.may {
		if may && at.name == name {
			id.Grants = append(id.Grants, topics.Grant{Room: at.room, Role: topics.Peer})
		}
	}
	return id, nil
}

func (s *pipes) start(p *play) *site {
	tb, m := p.tb, p.model
	s.may = maps.Clone(m.may)
	authenticate := func(_ context.Context, c topics.Credentials) (topics.Identity, error) { return s.identity(c.Name) }
	var err error
	s.broker, err = broker.New(broker.Config{
		Authenticate: authenticate,
		Still:        func(id topics.Identity) (topics.Identity, error) { return s.identity(id.Name) },
		Grace:        m.grace, Hold: m.hold, MaxHeld: m.held, MaxSessions: m.open, Rate: -1, Joins: -1,
	})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	s.door, err = ws.New(ws.Config{
		Connect: func(id topics.Identity, via string, inbox bridge.Inbox) (bridge.Bus, error) {
			bus, err := s.broker.Connect(id, via, inbox)
			if err != nil {
				return nil, err
			}
			return bus, nil
		},
		Authenticate: authenticate,
		Root:         topics.DefaultRoot,
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	s.server = &http.Server{Handler: s.door}
	accept := make(pipeListener)
	s.running.Go(func() { _ = s.server.Serve(accept) })
	return &site{testServer: &testServer{MQTT: "localhost"}, dial: func(network, _ string) (net.Conn, error) {
		client, server := net.Pipe()
		if network == "mqtt" {
			s.running.Go(func() { s.broker.ServeConn(server) })
		} else {
			accept <- server
		}
		return client, nil
	}}
}

func (s *pipes) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() { s.broker.Drain(ctx) })
	parts.Go(func() { _ = s.door.Drain(ctx) })
	parts.Wait()
	s.door.Close()
	_ = s.server.Close()
	_ = s.broker.Close()
	s.running.Wait()
}
