package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// through opens a transport for MQTT as if from another address, through a proxy on
// loopback.
func (s *site) through(t testing.TB, scheme, client string) net.Conn {
	t.Helper()
	var c net.Conn
	switch scheme {
	case "tcp", "tls":
		tcp, err := net.DialTimeout("tcp", s.MQTT, atMost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(tcp, "PROXY TCP4 %s 127.0.0.1 40000 1883\r\n", client)
		if c = tcp; scheme == "tls" {
			c = tls.Client(tcp, &tls.Config{RootCAs: s.trust.RootCAs, ServerName: "localhost"})
		}
	default:
		dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: s.trust, HandshakeTimeout: atMost}
		ws, _, err := dialer.Dial(scheme+"://"+s.MQTT+"/mqtt", http.Header{"X-Forwarded-For": {client}})
		if err != nil {
			t.Fatal(err)
		}
		c = &binaryMessages{Conn: ws.NetConn(), ws: ws}
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(atMost))
	return c
}

// binaryMessages is a WebSocket as a stream, as far as these tests go.
type binaryMessages struct {
	net.Conn
	ws *websocket.Conn
}

func (b *binaryMessages) Write(p []byte) (int, error) {
	return len(p), b.ws.WriteMessage(websocket.BinaryMessage, p)
}

func (b *binaryMessages) Read(p []byte) (int, error) {
	_, message, err := b.ws.ReadMessage()
	return copy(p, message), err
}

// tries logs in from an address and returns the code of the refusal, 0 if it is in.
func (s *site) tries(t testing.TB, door, client, user, password string) int {
	t.Helper()
	if door == "json" {
		header := http.Header{"X-Forwarded-For": {client}}
		(&http.Request{Header: header}).SetBasicAuth(user, password)
		ws, _, err := websocket.DefaultDialer.Dial(s.WS, header)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		ws.SetReadDeadline(time.Now().Add(atMost))
		ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","id":1,"room":"garage"}`))
		for {
			var answer struct {
				Type string
				Code int
			}
			_, frame, err := ws.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			if json.Unmarshal(frame, &answer); answer.Type == "joined" || answer.Type == "error" {
				return answer.Code
			}
		}
	}
	c := s.through(t, door, client)
	io.WriteString(c, packet(0x10, text("MQTT"), "\x05\xc2\x00\x3c\x00", text(""), text(user), text(password)))
	answer := make([]byte, 4)
	for got := 0; got < 4; {
		n, err := c.Read(answer[got:])
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	code, known := map[byte]int{0: 0, 0x86: 401, 0x9f: 429, 0x88: 503}[answer[3]]
	if !known {
		t.Fatalf("%s answers with the reason %#x", door, answer[3])
	}
	return code
}

func TestGuessesThroughAProxyHoldUpTheGuesserAndNobodyElse(t *testing.T) {
	s := startSite(t, "--users="+usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd}),
		"--limit-logins=2", "--trusted-proxy=127.0.0.1")
	for i, door := range []string{"tcp", "tls", "ws", "wss", "json"} {
		guesser, other := fmt.Sprintf("203.0.113.%d", i+1), fmt.Sprintf("198.51.100.%d", i+1)
		for n, want := range []int{401, 401, 429} {
			if got := s.tries(t, door, guesser, fmt.Sprintf("ghost%d%s", n, door), "hunter2-wrong"); got != want {
				t.Errorf("%s, guess %d: %d, want %d", door, n+1, got, want)
			}
		}
		if got := s.tries(t, door, other, "alice", alicePwd); got != 0 {
			t.Errorf("%s: from another address %d", door, got)
		}
		if door != "json" { // whose log has no addresses
			s.awaitLog(t, guesser)
		}
	}
}

func TestProxyThatIsNotTrustedSpeaksForNobody(t *testing.T) {
	s := startSite(t)
	c := s.through(t, "tcp", "203.0.113.1")
	io.WriteString(c, connectAs(5, "cam1", "", "", ""))
	if answer, _ := io.ReadAll(c); len(answer) > 0 {
		t.Errorf("answer % x", answer)
	}
	s.awaitLog(t, "PROXY header", "--trusted-proxy")
	if s.tries(t, "json", "203.0.113.1", "alice", "x"); strings.Contains(s.Log.String(), "203.0.113.1") {
		t.Error("a forged address is in the log")
	}
}
