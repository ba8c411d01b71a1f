package door

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// A thousand requests in a moment are nothing; who goes on is slowed down, and ends.
func TestConnectionHasABudgetOfRequestsHoweverTheyAreSent(t *testing.T) {
	threat.Row(t, 16, threat.HTTP)
	for _, line := range []string{"GET / HTTP/1.1", "OPTIONS * HTTP/1.1"} {
		t.Run(line, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := start(t, Config{Bytes: -1})
				p := newPipes()
				go d.Serve(p)
				c := p.connect("198.51.100.1:5")
				defer c.Close()
				var sending sync.WaitGroup
				sending.Go(func() {
					for {
						if _, err := io.WriteString(c, line+"\r\nHost: a\r\n\r\n"); err != nil {
							return
						}
					}
				})
				begin, answers, served := time.Now(), bufio.NewReader(c), 0
				for {
					r, err := http.ReadResponse(answers, nil)
					if err != nil {
						t.Fatalf("after %d answers: %v", served, err)
					}
					io.Copy(io.Discard, r.Body)
					if r.StatusCode == http.StatusTooManyRequests && r.Close {
						break
					}
					served++
				}
				took := time.Since(begin)
				if most := 4*DefaultRequests + int(took.Seconds()+1)*DefaultRequests; served < 4*DefaultRequests || served > most || took > 5*time.Second {
					t.Errorf("%d were served in %v, want %d to %d", served, took, 4*DefaultRequests, most)
				}
				if _, err := answers.ReadByte(); err != io.EOF {
					t.Errorf("after 429: %v, want the end", err)
				}
				sending.Wait()
				d.Close()
			})
		})
	}
}

func TestTrustedProxySendsAsManyRequestsAsItsClients(t *testing.T) {
	p := startBehind(t, Config{Bytes: -1, Requests: 10})
	c := p.connect("192.0.2.1:5")
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	answers := bufio.NewReader(c)
	for range 200 {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		r, err := http.ReadResponse(answers, nil)
		if err != nil || r.StatusCode != 200 {
			t.Fatal(r, err)
		}
		io.Copy(io.Discard, r.Body)
	}
}

// Who takes no answers, and sends one request after the other, is not read from, and
// gone when the first answer that does not fit has waited for ten seconds.
func TestRequestsWithoutEndAndNoAnswerReadHoldNothingUp(t *testing.T) {
	threat.Row(t, 19, threat.HTTP)
	synctest.Test(t, func(t *testing.T) {
		var served atomic.Int32
		d := start(t, Config{HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })})
		p := newPipes()
		go d.Serve(p)
		c := p.connect("198.51.100.1:5")
		defer c.Close()
		begin := time.Now()
		for {
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				break
			}
		}
		if took := time.Since(begin); took > answerTimeout+time.Second || served.Load() > 200 {
			t.Errorf("%d were served, and the connection ended after %v", served.Load(), took)
		}
		d.Close()
	})
}

// HTTP/2, with its streams, is not spoken: by nobody who asks for it in TLS, who just
// begins with it, or who would change to it.
func TestHTTP2IsNotSpoken(t *testing.T) {
	addr := listen(t, start(t, Config{TLS: serverTLS()}))
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	upgrade := "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		for _, says := range []string{preface, upgrade} {
			c := dial(t, addr)
			if secure {
				c = tls.Client(c, clientTLS())
			}
			io.WriteString(c, says)
			all, err := io.ReadAll(c)
			want := "HTTP/1.1 505"
			if says == upgrade {
				want = "HTTP/1.1 200"
			}
			if !strings.HasPrefix(string(all), want) || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, %.20q: answer %.60q, %v, want %s and the end", name, says, all, err, want)
			}
		}
	}
}

func TestHalfClosedClientGetsItsAnswersAndTheEnd(t *testing.T) {
	addr := listen(t, start(t, Config{}))
	c := dial(t, addr)
	fmt.Fprint(c, strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 3))
	c.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(c)
	if n := strings.Count(string(all), "hello /"); n != 3 || err != nil {
		t.Errorf("%d answers, %v, want 3 and the end", n, err)
	}
}
