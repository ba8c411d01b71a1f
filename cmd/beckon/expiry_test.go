package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/ws"
	"github.com/beckon-rtc/beckon/broker"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// TestTokensEndClosesItsConnectionAtEveryDoorOnTheSecond is on fake time: the
// broker and the WebSocket door speak over pipes.
func TestTokensEndClosesItsConnectionAtEveryDoorOnTheSecond(t *testing.T) {
	threat.Row(t, 9, threat.TCP|threat.JSON)
	const life = 10 * time.Minute
	for name, door := range map[string]func(*testing.T, *broker.Broker, topics.Identity) string{
		"MQTT 3.1.1: closed":        func(t *testing.T, b *broker.Broker, _ topics.Identity) string { return mqttUntilClosed(t, b, 4) },
		"MQTT 5: DISCONNECT 0x87":   func(t *testing.T, b *broker.Broker, _ topics.Identity) string { return mqttUntilClosed(t, b, 5) },
		"JSON over WebSocket: 4510": jsonUntilClosed,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				id := topics.Identity{Name: "cam1", Expires: start.Add(life), Grants: []topics.Grant{{Room: "garage", Role: topics.Peer}}}
				b, err := broker.New(broker.Config{Authenticate: func(context.Context, topics.Credentials) (topics.Identity, error) { return id, nil }})
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				_, want, _ := strings.Cut(name, ": ")
				if how := door(t, b, id); how != want {
					t.Errorf("it ended with %q", how)
				}
				if took := time.Since(start); took < life || took > life+2*time.Second {
					t.Errorf("it ended after %v, want %v", took, life)
				}
			})
		})
	}
}

// mqttUntilClosed connects by hand, keeps the connection alive, and tells how it
// ended after it was told 401.
func mqttUntilClosed(t *testing.T, b *broker.Broker, version byte) string {
	client, server := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		b.ServeConn(server)
	}()
	defer func() { client.Close(); <-served }()
	none := ""
	if version == 5 {
		none = "\x00" // no properties
	}
	connect := "\x00\x04MQTT" + string(rune(version)) + "\x02\x00\x3c" + none + "\x00\x04cam1"
	inbox := "rtc/v1/garage/to/cam1/+"
	subscribe := "\x00\x01" + none + "\x00" + string(rune(len(inbox))) + inbox + "\x01"
	write := func(kind byte, body string) {
		if _, err := client.Write(append([]byte{kind, byte(len(body))}, body...)); err != nil {
			t.Error(err)
		}
	}
	go func() { // a pipe has no buffer
		write(0x10, connect)
		write(0x82, subscribe)
	}()
	alive := time.NewTicker(30 * time.Second)
	defer alive.Stop()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-alive.C:
				_, _ = client.Write([]byte{0xC0, 0}) // PINGREQ
			case <-stop:
				return
			}
		}
	}()
	told := false
	for {
		kind, body, err := readPacket(client)
		switch {
		case err != nil && told:
			return "closed"
		case err != nil:
			return "closed without a word: " + err.Error()
		case kind>>4 == 3: // PUBLISH
			told = told || strings.Contains(string(body), `"code":401`)
		case kind>>4 == 14 && told: // DISCONNECT
			return fmt.Sprintf("DISCONNECT %#x", body[0])
		}
	}
}

// readPacket reads one MQTT packet: its first byte, and what follows the length.
func readPacket(r io.Reader) (kind byte, body []byte, err error) {
	one := make([]byte, 1)
	if _, err = io.ReadFull(r, one); err != nil {
		return 0, nil, err
	}
	kind = one[0]
	length, shift := 0, 0
	for more := true; more; shift += 7 {
		if _, err = io.ReadFull(r, one); err != nil {
			return 0, nil, err
		}
		length |= int(one[0]&0x7f) << shift
		more = one[0] >= 0x80
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return kind, body, err
}

// jsonUntilClosed joins over WebSocket and returns the close code.
func jsonUntilClosed(t *testing.T, b *broker.Broker, id topics.Identity) string {
	handler, err := ws.New(ws.Config{
		Connect: func(id topics.Identity, via string, inbox bridge.Inbox) (bridge.Bus, error) {
			return b.Connect(id, via, inbox)
		},
		Authenticate: func(context.Context, topics.Credentials) (topics.Identity, error) { return id, nil },
		Root:         topics.DefaultRoot,
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	pipes := make(pipeListener, 1)
	server := &http.Server{Handler: handler}
	go server.Serve(pipes)
	defer func() { handler.Close(); server.Close() }()
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) {
		client, server := net.Pipe()
		pipes <- server
		return client, nil
	}}
	c, _, err := dialer.Dial("ws://localhost/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","room":"garage"}`)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			if e, ok := err.(*websocket.CloseError); ok && e.Code == 4510 {
				return "4510"
			}
			return err.Error()
		}
	}
}

// pipeListener accepts what it is sent.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, io.EOF
}

func (l pipeListener) Close() error   { close(l); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
