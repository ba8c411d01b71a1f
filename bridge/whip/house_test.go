package whip

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/topics"
)

// house is the door on a bus in memory.
type house struct {
	*Handler
	t   testing.TB
	bus *bustest.Memory
	log *logs
}

// logs is what was logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Tokens are a name behind this; the first letters of the name say what it may.
const token = "hunter2-"

// authenticate knows the tokens of peer..., viewer... (of cam1) and observer....
func authenticate(_ context.Context, c topics.Credentials) (topics.Identity, error) {
	name, ok := strings.CutPrefix(c.Token+c.Password, token)
	if !ok {
		return topics.Identity{}, topics.Errorf(topics.Unauthorized, "the token is wrong")
	}
	id := topics.Identity{Name: name}
	switch {
	case strings.HasPrefix(name, "viewer"):
		id.Grants = []topics.Grant{{Room: "garage", Role: topics.Viewer, Of: "cam1"}}
	case strings.HasPrefix(name, "observer"):
		id.Grants = []topics.Grant{{Room: "*", Role: topics.Observer}}
	case strings.HasPrefix(name, "slow"):
		e := topics.Errorf(topics.RateLimited, "too many logins failed")
		e.RetryAfter = 7
		return id, e
	case strings.HasPrefix(name, "broken"):
		return id, fmt.Errorf("the disk is on fire")
	default:
		id.Grants = []topics.Grant{{Room: "*", Role: topics.Peer}}
	}
	return id, nil
}

func build(t testing.TB, set ...func(*Config)) *house {
	t.Helper()
	h := &house{t: t, bus: new(bustest.Memory), log: new(logs)}
	cfg := Config{Connect: h.bus.Connect, Authenticate: authenticate, Logger: slog.New(slog.NewTextHandler(h.log, nil))}
	for _, f := range set {
		f(&cfg)
	}
	handler, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Handler = handler
	t.Cleanup(func() {
		h.Close()
		if strings.Contains(h.log.String(), token) {
			t.Error("a token is in the log")
		}
	})
	return h
}

// do makes a request as peer1; header is of names and values in turn.
func (h *house) do(method, path, body string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	switch method {
	case http.MethodPost:
		r.Header.Set("Content-Type", typeSDP)
		r.Header.Set("Authorization", "Bearer "+token+"peer1")
	case http.MethodPatch:
		r.Header.Set("Content-Type", typeFragment)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Del(header[i])
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(r *http.Response) string {
	var b bytes.Buffer
	_, _ = b.ReadFrom(r.Body)
	return b.String()
}

// wants checks the status of an answer, and that an error is one as it should be.
func wants(t testing.TB, r *http.Response, status int, parts ...string) string {
	t.Helper()
	body := text(r)
	if r.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", r.StatusCode, status, body)
	}
	if status >= 400 {
		var problem struct {
			Status int
			Reason string
			Detail string
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil || problem.Status != status || problem.Reason == "" || problem.Detail == "" ||
			r.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("no problem, but %s: %s", r.Header.Get("Content-Type"), body)
		}
	}
	for _, p := range parts {
		if !strings.Contains(body, p) {
			t.Errorf("want %s in: %s", p, body)
		}
	}
	return body
}

// device is a camera on the bus.
type device struct {
	t    testing.TB
	bus  bridge.Bus
	name string
	got  chan topics.Delivery
}

const trickles = `{"online":true,"trickle":true}`

// device joins the garage as cam1.
func (h *house) device(presence string) *device { return h.deviceOf("cam1", presence) }

func (h *house) deviceOf(name, presence string) *device {
	h.t.Helper()
	d := &device{t: h.t, name: name, got: make(chan topics.Delivery, 10000)}
	id := bustest.PeerOf(name)
	id.Device = true
	bus, err := h.bus.Connect(id, "ws", bridge.InboxFunc(func(m topics.Delivery) error { d.got <- m; return nil }))
	if err != nil {
		h.t.Fatal(err)
	}
	d.bus = bus
	h.t.Cleanup(func() { bus.Close(true) })
	if err := bus.Publish(topics.Address{Room: "garage", Kind: topics.Presence, Src: name}, []byte(presence)); err != nil {
		h.t.Fatal(err)
	}
	if err := bus.Subscribe(id.Filters(topics.DefaultRoot, "garage")...); err != nil {
		h.t.Fatal(err)
	}
	return d
}

// say sends a message in the session of m to its sender.
func (d *device) say(m topics.Delivery, format string, args ...any) error {
	to := topics.Address{Room: "garage", Kind: topics.Direct, Dst: m.Src, Src: d.name}
	return d.bus.Publish(to, []byte(strings.Replace(fmt.Sprintf(format, args...), `"session":""`, `"session":"`+m.Session+`"`, 1)))
}

func (d *device) answer(m topics.Delivery, sdp string) error {
	text, _ := json.Marshal(sdp)
	return d.say(m, `{"type":"answer","session":"","sdp":%s}`, text)
}

func (d *device) candidate(m topics.Delivery, c string) error {
	return d.say(m, `{"type":"candidate","session":"","candidate":%q,"sdpMid":"0","sdpMLineIndex":0}`, c)
}

// next waits for the next message of a peer.
func (d *device) next(kind string) topics.Delivery {
	d.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case m := <-d.got:
			if m.Kind != topics.Direct || m.Src == topics.Server {
				continue
			}
			if m.Type != kind {
				d.t.Fatalf("%s got %s, want %s", d.name, m.Payload, kind)
			}
			return m
		case <-late:
			d.t.Fatalf("%s waited in vain for %s", d.name, kind)
		}
	}
}

// post makes a request that waits for the device.
func (h *house) post(path, body string, header ...string) <-chan *http.Response {
	answered := make(chan *http.Response, 1)
	go func() { answered <- h.do("POST", path, body, header...) }()
	return answered
}

// opened opens a session with d, and returns the offer that it got and the answer
// to the request.
func (h *house) opened(d *device, header ...string) (topics.Delivery, *http.Response) {
	h.t.Helper()
	answered := h.post("/whep/garage/"+d.name, offer, header...)
	m := d.next("offer")
	if err := d.answer(m, answer+"a=end-of-candidates\r\n"); err != nil {
		h.t.Fatal(err)
	}
	r := <-answered
	wants(h.t, r, 201)
	return m, r
}

func lines(s ...string) string { return strings.Join(s, "\r\n") + "\r\n" }

var offer = lines("v=0", "o=- 4611 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1",
	"a=fingerprint:sha-256 AA:BB", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=recvonly",
	"a=mid:0", "a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "a=setup:actpass",
	"m=video 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", "a=recvonly", "a=mid:1",
	"a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "a=setup:actpass")

var answer = lines("v=0", "o=- 9 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1", "a=fingerprint:sha-256 CC:DD",
	"m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=sendonly", "a=mid:0", "a=ice-ufrag:Dev1", "a=ice-pwd:CCkNzxjKXaWCBui1P2uYro0U",
	"m=video 9 UDP/TLS/RTP/SAVPF 96", "a=sendonly", "a=mid:1", "a=ice-ufrag:Dev1", "a=ice-pwd:CCkNzxjKXaWCBui1P2uYro0U")

const (
	host1 = "1 1 udp 2130706431 192.0.2.1 5000 typ host"
	host2 = "2 1 udp 2130706431 192.0.2.2 5000 typ host"
	srflx = "3 1 udp 1694498815 203.0.113.9 6000 typ srflx raddr 192.0.2.1 rport 5000"
)

// wrapped is a bus that lets a test speak into the newest inbox of an HTTP client.
func wrapped(connect bridge.Connect, inbox *func(topics.Delivery) error) bridge.Connect {
	return func(id topics.Identity, via string, in bridge.Inbox) (bridge.Bus, error) {
		*inbox = in.Take
		return connect(id, via, in)
	}
}
