package door

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestStrangersConnectionIsKeptForAnotherRequestForTenSecondsAndAKnownOneLonger(t *testing.T) {
	threat.Row(t, 15, threat.HTTP)
	const stranger, proxy = "198.51.100.1:5", "192.0.2.1:5"
	for name, is := range map[string]struct {
		from, header, last string
		secure             bool
		kept               time.Duration
	}{
		"stranger":                      {stranger, "", "/", false, 10 * time.Second},
		"stranger, by TLS":              {stranger, "", "/", true, 10 * time.Second},
		"stranger on loopback":          {"127.0.0.2:5", "", "/", false, 10 * time.Second},
		"stranger, authenticated":       {stranger, "", "/known", false, 150 * time.Second},
		"stranger, authenticated, TLS":  {stranger, "", "/known", true, 150 * time.Second},
		"proxy":                         {proxy, "", "/", false, 150 * time.Second},
		"proxy, by TLS":                 {proxy, "", "/", true, 150 * time.Second},
		"stranger behind a PROXY":       {proxy, "PROXY TCP4 198.51.100.1 192.0.2.1 5 80\r\n", "/", false, 10 * time.Second},
		"a proxy's own, behind a PROXY": {proxy, "PROXY UNKNOWN\r\n", "/", false, 150 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			certificate() // made in real time
			synctest.Test(t, func(t *testing.T) {
				p := startBehind(t, Config{TLS: serverTLS(), HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/known" {
						Known(r.Context())
					}
				})})
				c := p.connect(is.from)
				defer c.Close()
				io.WriteString(c, is.header)
				if is.secure {
					c = tls.Client(c, clientTLS())
				}
				answers := bufio.NewReader(c)
				for _, path := range []string{"/", "/", is.last} {
					time.Sleep(9 * time.Second)
					fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
					if _, err := http.ReadResponse(answers, nil); err != nil {
						t.Fatal(err)
					}
				}
				answered := time.Now()
				if n, err := answers.ReadByte(); err != io.EOF {
					t.Errorf("read %v, %v, want the end", n, err)
				}
				if kept := time.Since(answered); kept != is.kept {
					t.Errorf("kept for %v, want %v", kept, is.kept)
				}
			})
		})
	}
}

// Its first byte comes late, when it has waited for nine seconds.
func TestNextRequestHasATimeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, Config{})
		p := newPipes()
		go d.Serve(p)
		c := p.connect("198.51.100.1:5")
		defer c.Close()
		answers := bufio.NewReader(c)
		for _, part := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\n", "Host: a\r\nContent-Length: 2\r\n", "\r\na", "b"} {
			io.WriteString(c, part)
			if part[0] == 'G' {
				if r, err := http.ReadResponse(answers, nil); err != nil || r.StatusCode != 200 {
					t.Fatal(r, err)
				}
				answers.Discard(len("hello /"))
				time.Sleep(6 * time.Second)
			}
			time.Sleep(3 * time.Second)
		}
		if r, err := http.ReadResponse(answers, nil); err != nil || r.StatusCode != 200 {
			t.Error(r, err)
		}
		d.Close()
	})
}

// What a client has not taken in the time that it had is gone with its connection, and
// no socket stays behind that waits for it to be taken.
func TestAnswerThatIsNotTakenIsThrownAway(t *testing.T) {
	threat.Row(t, 15, threat.HTTP)
	for name, bytes := range map[string]int{
		"it fits into the socket": 100 << 10, // so the connection is idle
		"it does not":             64 << 20,
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			d := start(t, Config{
				Handshake: 300 * time.Millisecond,
				HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
					io.WriteString(w, strings.Repeat("x", bytes))
				}),
			})
			state := d.http.ConnState
			d.http.ConnState = func(c net.Conn, s http.ConnState) {
				state(c, s)
				if s == http.StateClosed {
					close(ended)
				}
			}
			c := dial(t, listen(t, d))
			c.(*net.TCPConn).SetReadBuffer(1 << 10)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			<-ended
			if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client reads on until %v, want a reset", err)
			}
		})
	}
}
