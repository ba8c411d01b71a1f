package main

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// frame is a WebSocket frame (RFC 6455, 5.2) as a client sends it, masked with
// zeros. first is FIN, RSV and the opcode.
func frame(first byte, payload string) string {
	head := []byte{first}
	switch n := len(payload); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	return string(head) + "\x00\x00\x00\x00" + payload
}

// socketDoor is one of the paths with WebSockets.
type socketDoor struct {
	path   string
	begin  string // a frame that lets a client in
	opcode byte   // of its messages
	doors  threat.Doors
}

var socketDoors = []socketDoor{
	{"/ws", frame(0x81, `{"type":"join","room":"attic","peer":"mallory"}`), 1, threat.JSON},
	{"/mqtt", frame(0x82, connectAs(4, "mallory", "", "", "")), 2, threat.WS3},
	{"/mqtt", frame(0x82, connectAs(5, "mallory", "", "", "")), 2, threat.WS5},
}

// everySocket runs test on each of them, with and without TLS, before and after
// its client is let in.
func everySocket(t *testing.T, b *besieged, test func(at string, d socketDoor, conn net.Conn, in *bufio.Reader)) {
	t.Helper()
	for _, d := range socketDoors {
		for _, scheme := range []string{"ws", "wss"} {
			for _, inside := range []bool{false, true} {
				conn, in, _ := b.upgrade(t, scheme, d.path)
				if inside {
					_, _ = io.WriteString(conn, d.begin)
					if _, _, err := readFrame(in); err != nil {
						t.Fatal(err)
					}
				}
				test(fmt.Sprintf("%v by %s, inside %v", d.doors, scheme, inside), d, conn, in)
				conn.Close()
			}
		}
	}
	b.sing()
}

// readFrame reads a frame of the server.
func readFrame(in *bufio.Reader) (opcode byte, payload string, err error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, "", err
	}
	n := uint64(head[1])
	long := map[byte]int{126: 2, 127: 8}[head[1]]
	if long > 0 {
		more := make([]byte, 8)
		if _, err := io.ReadFull(in, more[8-long:]); err != nil {
			return 0, "", err
		}
		n = binary.BigEndian.Uint64(more)
	}
	body := make([]byte, n)
	_, err = io.ReadFull(in, body)
	return head[0] & 0xf, string(body), err
}

// closeCode reads until the server closes, and returns its code: 0 without one.
func closeCode(t *testing.T, in *bufio.Reader) (code int, said string) {
	t.Helper()
	for {
		opcode, payload, err := readFrame(in)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Error("the server does not close the connection")
		}
		if err != nil {
			return 0, said
		}
		switch said += payload; {
		case opcode == 8 && len(payload) >= 2:
			return int(binary.BigEndian.Uint16([]byte(payload))), said
		case opcode == 8:
			return 0, said
		}
	}
}

func TestThreatBrokenFramesEndTheirOwnConnectionOnly(t *testing.T) {
	threat.Row(t, 12, threat.WS|threat.JSON)
	b := besiege(t)
	endless := strings.Repeat(frame(0x00, strings.Repeat("\xc0", 100)), 6000)
	for _, c := range []struct {
		what  string
		frame string   // %m stands for FIN and the opcode of messages, %f for the first fragment of one
		on    []string // paths; nil: all
		codes []int    // 0: none, for one while a write was under way; 1000 is that the MQTT inside was ended, with its own reason
	}{
		{"unmasked", "%m\x02{}", nil, []int{1002}},
		{"unmasked ping", "\x89\x00", nil, []int{1002}},
		{"length of 2^64-1", "%m\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", nil, []int{0, 1000, 1002, 1009, 4501}},
		{"length of 2^63", "%m\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", nil, []int{0, 1000, 1002, 1009, 4501}},
		{"length of 2^63-1", "%m\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00" + strings.Repeat("\xc0\x00", 1<<18), nil, []int{0, 1002, 1009, 4501, 4510}},
		{"length of a gigabyte", "%m\xff\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("\xc0\x00", 1<<18), nil, []int{0, 1002, 1009, 4501, 4510}},
		{"lengths that overflow together", "\x01\x81\x00\x00\x00\x00 \x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00" + strings.Repeat(" ", 1<<19), nil, []int{0, 1002, 1003, 1009, 4501, 4510}},
		{"continuation of nothing", frame(0x80, "x"), nil, []int{1002}},
		{"a message within a message", "%f" + frame(0x81, "x"), nil, []int{0, 1000, 1002, 1003}},
		{"endless fragments", "%f" + endless, nil, []int{0, 1000, 1009, 4501, 4510}},
		{"reserved bit 1", frame(0xc1, "x"), nil, []int{1002}},
		{"reserved bit 2", frame(0xa1, "x"), nil, []int{1002}},
		{"reserved bit 3", frame(0x91, "x"), nil, []int{1002}},
		{"opcode 3", frame(0x83, "x"), nil, []int{1002}},
		{"opcode 11", frame(0x8b, "x"), nil, []int{1002}},
		{"ping in fragments", frame(0x09, "x"), nil, []int{1002}},
		{"ping of 126 bytes", frame(0x89, strings.Repeat("x", 126)), nil, []int{1002}},
		{"close of one byte", frame(0x88, "x"), nil, []int{0, 1002, 1005}},
		{"close with code 0", frame(0x88, "\x00\x00"), nil, []int{1002}},
		{"close with code 1005", frame(0x88, "\x03\xed"), nil, []int{1002}},
		{"close with bad UTF-8", frame(0x88, "\x03\xe8\xff\xfe"), nil, []int{1002, 1007}},
		{"text to MQTT", frame(0x81, "hello"), []string{"/mqtt"}, []int{0, 1003}},
		{"binary to JSON", frame(0x82, `{"type":"ping"}`), []string{"/ws"}, []int{4501}},
	} {
		t.Run(c.what, func(t *testing.T) {
			everySocket(t, b, func(at string, d socketDoor, conn net.Conn, in *bufio.Reader) {
				if c.on != nil && !slices.Contains(c.on, d.path) {
					return
				}
				text := strings.NewReplacer("%m", string([]byte{0x80 | d.opcode}), "%f", frame(d.opcode, "\xc0")).Replace(c.frame)
				go func() { _, _ = io.WriteString(conn, text) }() // the server may close before all is written
				if code, said := closeCode(t, in); !slices.Contains(c.codes, code) {
					t.Errorf("%s: closed with %d %.200q, want one of %v", at, code, said, c.codes)
				}
			})
		})
	}
	b.unharmed()
}

// A text that is not UTF-8 is refused, and nobody gets it.
func TestThreatTextThatIsNotUTF8IsRefused(t *testing.T) {
	threat.Row(t, 12, threat.JSON)
	b := besiege(t)
	for _, bad := range []string{"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"} {
		conn, in, _ := b.upgrade(t, "ws", "/ws")
		_, _ = io.WriteString(conn, frame(0x81, `{"type":"join","room":"garage","peer":"mallory"}`))
		_, _ = io.WriteString(conn, frame(0x81, `{"type":"msg","to":"bird","data":"`+bad+`"}`))
		for _, want := range []string{`"type":"joined"`, `"code":400`} {
			if _, said, err := readFrame(in); err != nil || !strings.Contains(said, want) {
				t.Errorf("%q: %.300q %v", bad, said, err)
			}
		}
		_, _ = io.WriteString(conn, frame(0x88, "\x03\xe8"))
		b.canaries.json.until("that mallory is gone", func(e event) bool { return e.from == "mallory" && e.gone() })
		b.canaries.mqtt.until("that mallory is gone", func(e event) bool { return e.from == "mallory" && e.gone() })
	}
	b.unharmed()
}

// A flood of pings, or of fragments that are empty, takes no memory, whether its
// sender reads the answers or not.
func TestThreatPingsAndEmptyFragmentsTakeNoMemory(t *testing.T) {
	threat.Row(t, 12, threat.WS|threat.JSON)
	b := besiege(t)
	for what, one := range map[string]string{
		"pings":           frame(0x89, strings.Repeat("p", 125)),
		"empty fragments": "",
		"unasked pongs":   frame(0x8a, strings.Repeat("p", 125)),
	} {
		t.Run(what, func(t *testing.T) {
			everySocket(t, b, func(at string, d socketDoor, conn net.Conn, in *bufio.Reader) {
				before := inUse()
				flood := strings.Repeat(one, 1000)
				if one == "" {
					_, _ = io.WriteString(conn, frame(d.opcode, ""))
					flood = strings.Repeat(frame(0x00, ""), 1000)
				}
				go io.Copy(io.Discard, in)
				for range times(5, 100) {
					if _, err := io.WriteString(conn, flood); err != nil {
						return // cut off, which is an answer, too
					}
				}
				if now := inUse(); now > before+4<<20 {
					t.Errorf("%s: %d bytes more in use", at, now-before)
				}
			})
		})
	}
	b.unharmed()
}

// Compression is never agreed upon, so what 51 KB would become stays unknown.
func TestThreatCompressedBombsAreNotUnpacked(t *testing.T) {
	threat.Row(t, 11, threat.WS|threat.JSON|threat.HTTP)
	b := besiege(t)
	var packed, zipped bytes.Buffer
	deflate, _ := flate.NewWriter(&packed, flate.BestCompression)
	gz := gzip.NewWriter(&zipped)
	spaces := bytes.Repeat([]byte(" "), 1<<20)
	_, _ = deflate.Write(spaces)
	_, _ = gz.Write(spaces)
	_ = deflate.Flush()
	_ = gz.Close()
	bomb, zip := frame(0xc1, strings.Repeat(packed.String(), 50)), bytes.Repeat(zipped.Bytes(), 50)
	allocated := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	before := allocated()
	for _, d := range socketDoors {
		for _, scheme := range []string{"ws", "wss"} {
			conn, in, answer := b.upgrade(t, scheme, d.path, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame")
			if got := answer.Header.Get("Sec-WebSocket-Extensions"); got != "" {
				t.Errorf("%s by %s agrees to %s", d.path, scheme, got)
			}
			_, _ = io.WriteString(conn, d.begin+bomb)
			if code, _ := closeCode(t, in); code != 1002 {
				t.Errorf("%s by %s: closed with %d, want 1002", d.path, scheme, code)
			}
			conn.Close()
		}
	}
	for _, path := range []string{"/", "/ws", "/mqtt", "/healthz", "/api/v1/tokens"} {
		r, _ := http.NewRequest("POST", b.URL+path, bytes.NewReader(zip))
		r.Header.Set("Content-Encoding", "gzip")
		r.Header.Set("Content-Type", "application/json")
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err != nil {
			continue // it was closed while the bomb was sent
		}
		answer.Body.Close()
		if answer.StatusCode < 400 {
			t.Errorf("a bomb at %s is answered with %d", path, answer.StatusCode)
		}
	}
	if got := allocated() - before; got > 20<<20 {
		t.Errorf("%d bytes were allocated", got)
	} else {
		t.Logf("a bomb of %d bytes; %d KiB allocated in all, by client and server, for %d of them", len(bomb), got>>10, 2*len(socketDoors))
	}
	b.unharmed()
}
