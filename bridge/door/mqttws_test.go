package door

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
)

// startWS serves /mqtt at a door and returns its host and port.
func startWS(t *testing.T, config WebSocketConfig) (addr string, d *Door, h *WebSocket) {
	t.Helper()
	if config.Serve == nil {
		config.Serve = serveMQTT
	}
	h, err := MQTT(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	d = start(t, Config{HTTP: h, TLS: serverTLS()})
	return listen(t, d), d, h
}

func dialWS(t *testing.T, url string, protocols ...string) *websocket.Conn {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: protocols, TLSClientConfig: clientTLS()}
	c, r, err := dialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err, r)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	return c
}

func wantClose(t *testing.T, c *websocket.Conn, code int) {
	t.Helper()
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			if !websocket.IsCloseError(err, code) {
				t.Errorf("ended with %v, want close code %d", err, code)
			}
			return
		}
	}
}

func TestStrangersOfAForeignOriginDoNotFillTheLog(t *testing.T) {
	var log bytes.Buffer
	h, err := MQTT(WebSocketConfig{Serve: serveMQTT, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for range 100 {
		r := httptest.NewRequest(http.MethodGet, "/mqtt", nil)
		r.Header.Set("Origin", "https://evil.example")
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if n := strings.Count(log.String(), "https://evil.example is not allowed"); n != 5 {
		t.Errorf("%d lines of 100 requests", n)
	}
}

func TestMQTTOverWebSocketReachesTheBroker(t *testing.T) {
	addr, _, _ := startWS(t, WebSocketConfig{})
	for _, scheme := range []string{"ws", "wss"} {
		for _, protocol := range []string{"mqtt", "mqttv3.1"} {
			c := dialWS(t, scheme+"://"+addr, "foo", protocol)
			if c.Subprotocol() != protocol {
				t.Errorf("subprotocol %q, want %q", c.Subprotocol(), protocol)
			}
			c.WriteMessage(websocket.BinaryMessage, connect)
			kind, answer, err := c.ReadMessage()
			if err != nil || kind != websocket.BinaryMessage || !bytes.Equal(answer, connack) {
				t.Errorf("%s: answer %d %x, %v", scheme, kind, answer, err)
			}
		}
	}
}

func TestPacketMaySpanFramesAndAFrameMayHoldSeveral(t *testing.T) {
	addr, _, _ := startWS(t, WebSocketConfig{})
	c := dialWS(t, "ws://"+addr, "mqtt")
	for _, part := range [][]byte{connect[:1], {}, connect[1:7], append(bytes.Clone(connect[7:]), "ping"...)} {
		c.WriteMessage(websocket.BinaryMessage, part)
	}
	w, _ := c.NextWriter(websocket.BinaryMessage)
	w.Write(bytes.Repeat([]byte("x"), 100_000)) // many fragments
	w.Close()
	var got bytes.Buffer
	for got.Len() < len(connack)+4+100_000 {
		_, b, err := c.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		got.Write(b)
	}
	if want := string(connack) + "ping" + strings.Repeat("x", 100_000); got.String() != want {
		t.Error("the stream arrived changed")
	}
}

func TestEachWriteIsOneBinaryMessage(t *testing.T) {
	addr, _, _ := startWS(t, WebSocketConfig{Serve: func(c net.Conn) {
		for _, n := range []int{1, 5000, 70_000} {
			if written, err := c.Write(make([]byte, n)); written != n || err != nil {
				t.Errorf("Write of %d: %d, %v", n, written, err)
			}
		}
	}})
	c := dialWS(t, "ws://"+addr, "mqtt")
	for _, want := range []int{1, 5000, 70_000} {
		if _, b, err := c.ReadMessage(); err != nil || len(b) != want {
			t.Errorf("message of %d bytes, %v, want %d", len(b), err, want)
		}
	}
	wantClose(t, c, websocket.CloseNormalClosure)
}

func TestTextFrameIsClosedWith1003(t *testing.T) {
	addr, _, _ := startWS(t, WebSocketConfig{})
	c := dialWS(t, "ws://"+addr, "mqtt")
	c.WriteMessage(websocket.TextMessage, connect)
	wantClose(t, c, websocket.CloseUnsupportedData)
}

func TestMessageOverTheLimitIsClosedWith1009(t *testing.T) {
	addr, _, _ := startWS(t, WebSocketConfig{MaxFrame: 1000})
	c := dialWS(t, "ws://"+addr, "mqtt")
	c.WriteMessage(websocket.BinaryMessage, make([]byte, 1001))
	wantClose(t, c, websocket.CloseMessageTooBig)
}

func TestUpgradeThatCannotBeIsRefusedInWords(t *testing.T) {
	addr, _, _ := startWS(t, WebSocketConfig{Origins: bridge.Origins{Allowed: []string{"https://app.example"}}})
	upgrade := func(more ...string) http.Header {
		h := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {"mqtt"}}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = []string{more[i+1]}
			if more[i+1] == "" {
				delete(h, more[i])
			}
		}
		return h
	}
	for name, c := range map[string]struct {
		header http.Header
		status int
		words  string
	}{
		"no WebSocket":   {http.Header{}, http.StatusUpgradeRequired, "speaks MQTT over WebSocket"},
		"foreign origin": {upgrade("Origin", "https://evil.example"), http.StatusForbidden, "--origin https://evil.example"},
		"subprotocol":    {upgrade("Sec-Websocket-Protocol", "chat, MQTT"), http.StatusBadRequest, `"mqtt"`},
		"no subprotocol": {upgrade("Sec-Websocket-Protocol", ""), http.StatusBadRequest, `"mqtt"`},
		"version":        {upgrade("Sec-Websocket-Version", "8"), http.StatusBadRequest, "version"},
		"no key":         {upgrade("Sec-Websocket-Key", ""), http.StatusBadRequest, "Key"},
		"listed origin":  {upgrade("Origin", "https://app.example"), http.StatusSwitchingProtocols, ""},
		"same origin":    {upgrade("Origin", "http://"+addr), http.StatusSwitchingProtocols, ""},
		"second line":    {http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {"chat", "mqtt"}}, http.StatusSwitchingProtocols, ""},
	} {
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			r, _ := http.NewRequest("GET", "http://"+addr+"/mqtt", nil)
			r.Header = c.header
			answer, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != c.status {
				t.Errorf("status %d, want %d", answer.StatusCode, c.status)
			}
			if c.status == http.StatusSwitchingProtocols {
				return
			}
			body, _ := io.ReadAll(answer.Body)
			if !strings.Contains(string(body), c.words) {
				t.Errorf("body %q, want %q in it", body, c.words)
			}
		})
	}
}

func TestWebSocketIsNotAdmittedBeforeItsCONNACK(t *testing.T) {
	addr, d, _ := startWS(t, WebSocketConfig{})
	waiting := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.waiting
	}
	c := dialWS(t, "ws://"+addr, "mqtt")
	if n := waiting(); n != 1 {
		t.Errorf("%d connections wait after the upgrade, want 1", n)
	}
	c.WriteMessage(websocket.BinaryMessage, connect)
	if _, _, err := c.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d connections wait after CONNACK, want 0", n)
	}
}

func TestSilentWebSocketKeepsItsPlaceUntilTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := MQTT(WebSocketConfig{Serve: func(c net.Conn) {
			c.SetDeadline(time.Time{})
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read: %v, want the deadline", err)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		d := start(t, Config{HTTP: h, Unauthenticated: 1})
		p := newPipes()
		go d.Serve(p)
		begin := time.Now()
		dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, NetDial: func(string, string) (net.Conn, error) { return p.connect("192.0.2.1:1000"), nil }}
		c, _, err := dialer.Dial("ws://x/mqtt", nil)
		if err != nil {
			t.Fatal(err)
		}
		second := p.connect("192.0.2.2:1000") // no place for it
		io.Copy(io.Discard, second)
		if took := time.Since(begin); took != 0 {
			t.Errorf("the second one was closed after %v", took)
		}
		if _, _, err := c.ReadMessage(); err == nil {
			t.Error("the silent WebSocket got a message")
		}
		if took := time.Since(begin); took != DefaultHandshake {
			t.Errorf("the silent WebSocket was closed after %v", took)
		}
		h.Close()
		d.Close()
		c.Close()
		second.Close()
	})
}

func TestWriteDeadlineEndsAWriteThatIsStuck(t *testing.T) {
	result := make(chan error, 1)
	addr, _, _ := startWS(t, WebSocketConfig{Serve: func(c net.Conn) {
		for {
			c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				result <- err
				return
			}
		}
	}})
	dialWS(t, "ws://"+addr, "mqtt") // reads nothing
	if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write: %v", err)
	}
}

func TestCloseEndsWebSocketsAndWaitsForThem(t *testing.T) {
	var serving sync.WaitGroup
	serving.Add(3)
	var mu sync.Mutex
	ended := 0
	addr, _, h := startWS(t, WebSocketConfig{Serve: func(c net.Conn) {
		serving.Done()
		io.Copy(io.Discard, c)
		mu.Lock()
		defer mu.Unlock()
		ended++
	}})
	var clients []*websocket.Conn
	for range 3 {
		clients = append(clients, dialWS(t, "ws://"+addr, "mqtt"))
	}
	serving.Wait()
	h.Close()
	h.Close()
	mu.Lock()
	if ended != 3 {
		t.Errorf("%d of 3 ended when Close returned", ended)
	}
	mu.Unlock()
	for _, c := range clients {
		wantClose(t, c, websocket.CloseGoingAway)
	}
	wantClose(t, dialWS(t, "ws://"+addr, "mqtt"), websocket.CloseGoingAway)
}

func TestCloseFrameOfTheClientIsTheEndOfTheStream(t *testing.T) {
	result := make(chan error, 1)
	addr, _, _ := startWS(t, WebSocketConfig{Serve: func(c net.Conn) {
		_, err := io.ReadAll(c)
		result <- err
	}})
	c := dialWS(t, "ws://"+addr, "mqtt")
	c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	if err := <-result; err != nil {
		t.Errorf("ReadAll: %v", err)
	}
}

func TestWebSocketWithoutADoorWorksToo(t *testing.T) {
	h, err := MQTT(WebSocketConfig{Serve: serveMQTT})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go server.Serve(l)
	defer server.Close()
	defer h.Close()
	c := dialWS(t, "ws://"+l.Addr().String(), "mqtt")
	c.WriteMessage(websocket.BinaryMessage, connect)
	if _, answer, err := c.ReadMessage(); err != nil || !bytes.Equal(answer, connack) {
		t.Errorf("answer %x, %v", answer, err)
	}
}
