package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var noDeadline time.Time

// writeBuffers are the buffers in which messages are masked; no idle connection
// has one.
var writeBuffers sync.Pool

// upgrade opens a WebSocket.
func (r *run) upgrade(ctx context.Context, url, protocol string, dial func(context.Context, string) (net.Conn, error)) (*websocket.Conn, error) {
	via := func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) }
	dialer := websocket.Dialer{
		NetDialContext: via, NetDialTLSContext: via, HandshakeTimeout: joinTime,
		ReadBufferSize: r.buffer,
		// A longer message would leave in pieces.
		WriteBufferSize: max(4<<10, r.size+1<<10), WriteBufferPool: &writeBuffers,
	}
	if protocol != "" {
		dialer.Subprotocols = []string{protocol}
	}
	ws, response, err := dialer.DialContext(ctx, url, nil)
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && response != nil:
		said, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return nil, fmt.Errorf("the server answered %d %s instead of a WebSocket: %s", response.StatusCode, http.StatusText(response.StatusCode), bytes.TrimSpace(said))
	case err != nil:
		return nil, err
	case protocol != "" && ws.Subprotocol() != protocol:
		ws.Close()
		return nil, fmt.Errorf("the server did not take the subprotocol %s", protocol)
	}
	ws.SetReadLimit(maxPacket)
	return ws, nil
}

// frames is a connection whose frames of text are its messages.
type frames struct {
	ws  *websocket.Conn
	tcp *net.TCPConn
	buf []byte // the reader's

	mu sync.Mutex // guards writing
}

// jsonLink is the link by frames of JSON.
type jsonLink struct {
	frames
	texts *texts
}

func (l *jsonLink) join(ctx context.Context, p *peer, token string) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = l.tcp.SetDeadline(deadline)
		defer l.tcp.SetDeadline(noDeadline)
	}
	frame, err := json.Marshal(struct {
		Type  string `json:"type"`
		Room  string `json:"room"`
		Peer  string `json:"peer"`
		Token string `json:"token,omitempty"`
	}{"join", p.room, p.name, token})
	if err != nil {
		return err
	}
	if err := l.write(frame); err != nil {
		return err
	}
	for {
		got, err := l.next()
		if err != nil {
			return fmt.Errorf("no answer to the join: %w", err)
		}
		if code, text, ok := readError(got); ok && code > 404 { // 429, 503 and the like
			return fmt.Errorf("the server did not take the join: %d, %s", code, text)
		} else if ok {
			return refused("the server refused the join: %d, %s", code, text)
		}
		if bytes.HasPrefix(got, []byte(`{"type":"joined"`)) {
			return nil
		}
	}
}

func (l *jsonLink) say(to string, m mark) error {
	s := spaces.Get().(*space)
	defer spaces.Put(s)
	return l.write(l.texts.frame(s, to, m))
}

// frame puts the frame together that says m to a peer, "" for all of the room.
func (t *texts) frame(s *space, to string, m mark) []byte {
	s.payload = s.payload[:0]
	if to != "" {
		s.packet = t.append(s.packet[:0], m)
		s.payload = append(append(append(s.payload, directed...), to...), `",`...)
		s.payload = append(s.payload, s.packet[1:]...)
	} else {
		s.payload = t.append(s.payload, m)
	}
	return s.payload
}

func (l *frames) write(frame []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ws.WriteMessage(websocket.TextMessage, frame)
}

var (
	pingFrame = []byte(`{"type":"ping"}`)
	pongFrame = []byte(`{"type":"pong"}`)
)

func (l *jsonLink) ping() error { return l.write(pingFrame) }

func (l *jsonLink) read(p *peer) error {
	for {
		got, err := l.next()
		if err != nil {
			return err
		}
		if bytes.Equal(got, pongFrame) {
			p.pongs.Add(1)
			continue
		}
		p.take(got)
	}
}

// ping is the WebSocket's own, which every server answers in its turn.
func (l *frames) ping() error {
	return l.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
}

// each reads frames and pongs, until the connection ends.
func (l *frames) each(p *peer, take func(frame []byte)) error {
	l.ws.SetPongHandler(func(string) error {
		p.pongs.Add(1)
		return nil
	})
	for {
		got, err := l.next()
		if err != nil {
			return err
		}
		take(got)
	}
}

// next reads a frame, good until the next is read.
func (l *frames) next() ([]byte, error) {
	_, in, err := l.ws.NextReader()
	if err != nil {
		return nil, err
	}
	l.buf, err = readAll(in, l.buf[:0])
	return l.buf, err
}

// readAll is io.ReadAll into a buffer that is there already.
func readAll(in io.Reader, buf []byte) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}

func (l *frames) leave() { goodbye(l.ws) }

func (l *frames) cut() { cutOff(l.tcp) }

// goodbye closes a WebSocket of one's own will.
func goodbye(ws *websocket.Conn) {
	_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	_ = ws.Close()
}

// stream is MQTT in WebSocket messages (MQTT 5, section 6): each write is one.
type stream struct {
	ws *websocket.Conn
	in io.Reader // the rest of a message
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.in == nil {
			_, in, err := s.ws.NextReader()
			if err != nil {
				return 0, err
			}
			s.in = in
		}
		n, err := s.in.Read(p)
		if errors.Is(err, io.EOF) {
			s.in, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (s *stream) Write(p []byte) (int, error) {
	if err := s.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
