package rest_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/bridge/door"
	"github.com/beckon-rtc/beckon/bridge/rest"
	"github.com/beckon-rtc/beckon/topics"
)

// behind serves the handler at the door, over pipes, for tests on fake time.
func behind(t *testing.T, authenticate func(context.Context, topics.Credentials) (topics.Identity, error)) (h *rest.Handler, dial func() net.Conn) {
	h, err := rest.New(rest.Config{
		Connect:      new(bustest.Memory).Connect,
		Authenticate: authenticate,
		Rooms:        func(topics.Identity) map[string]int { return nil },
		Peers:        func(topics.Identity, string) ([]topics.Delivery, error) { return nil, nil },
		Hold:         door.Hold,
		HoldRequest:  door.HoldRequest,
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := door.New(door.Config{HTTP: h, MQTT: func(net.Conn) {}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error)
	go func() { served <- d.Serve(l) }()
	t.Cleanup(func() {
		h.Close()
		d.Close()
		<-served
	})
	return h, func() net.Conn {
		far, near := net.Pipe()
		l.conns <- near
		t.Cleanup(func() { far.Close() })
		return far
	}
}

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestSlowAnswerIsStillOne(t *testing.T) {
	never := func(ctx context.Context, _ topics.Credentials) (topics.Identity, error) {
		<-ctx.Done()
		return topics.Identity{}, ctx.Err()
	}
	for _, head := range []string{
		"GET " + rooms, "GET " + garage, "GET " + events, "GET " + events + "?lastEventId=a.1",
		"POST " + messages + " HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nHost: x\r\n\r\n{}",
	} {
		synctest.Test(t, func(t *testing.T) {
			_, dial := behind(t, never)
			c, began := dial(), time.Now()
			if strings.HasPrefix(head, "GET") {
				head += " HTTP/1.1\r\nHost: x\r\n\r\n"
			}
			ask(t, c, head)
			problem(t, c, head, http.StatusGatewayTimeout, `"reason":"timeout"`)
			if took := time.Since(began); took != 7*time.Second {
				t.Errorf("%s: after %v", head, took)
			}
		})
	}
}

// The time of a message is for all of it: who is told nothing sends it again.
func TestBodyHasTheTimeThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, dial := behind(t, func(_ context.Context, c topics.Credentials) (topics.Identity, error) {
			time.Sleep(6 * time.Second) // fake time
			return bustest.PeerOf(c.Name), nil
		})
		c, began := dial(), time.Now()
		ask(t, c, "POST "+messages+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n")
		problem(t, c, "the body", http.StatusRequestTimeout, "the body did not come")
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

func TestCloseEndsRequestsThatWait(t *testing.T) {
	for body, authenticate := range map[string]func(context.Context, topics.Credentials) (topics.Identity, error){
		"{": func(_ context.Context, c topics.Credentials) (topics.Identity, error) {
			return bustest.PeerOf(c.Name), nil
		},
		"{}": func(ctx context.Context, c topics.Credentials) (topics.Identity, error) {
			<-ctx.Done()
			return topics.Identity{}, ctx.Err()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, dial := behind(t, authenticate)
			c, began := dial(), time.Now()
			ask(t, c, "POST "+messages+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"+body)
			synctest.Wait()
			go h.Close()
			problem(t, c, body, http.StatusServiceUnavailable, "the server is going away")
			if took := time.Since(began); took != 0 {
				t.Errorf("%s: after %v", body, took)
			}
		})
	}
}

func ask(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// problem reads an answer, which is one of that status with those words.
func problem(t *testing.T, c net.Conn, what string, status int, words string) {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != status || !strings.Contains(string(text), words) {
		t.Errorf("%s: %s %s, %v", what, r.Status, text, err)
	}
}
