package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// guesses are logins with a wrong password, so many a second whatever becomes of
// them, each from another address and under another name or one that there is, so
// that nothing holds them up but the pool of hashes.
type guesses struct {
	s    *site
	stop chan struct{}
	all  sync.WaitGroup

	made, refused, busy, lost atomic.Int64           // 401; 503 or 429; no answer
	odd                       atomic.Pointer[string] // another answer
}

func (s *site) startGuesses(perSecond int) *guesses {
	g := &guesses{s: s, stop: make(chan struct{})}
	g.all.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		began, n := time.Now(), 0
		for {
			select {
			case <-g.stop:
				return
			case <-tick.C:
			}
			for due := int(time.Since(began).Seconds() * float64(perSecond)); n < due; n++ {
				one := n
				g.all.Go(func() { g.guess(one) })
			}
		}
	})
	return g
}

func (g *guesses) end() {
	close(g.stop)
	g.all.Wait()
}

func (g *guesses) guess(n int) {
	g.made.Add(1)
	client := fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)
	user := fmt.Sprint("nobody", n)
	if n%7 == 0 {
		user = []string{"alice", "cam1"}[n%2] // which is held up by its name soon
	}
	const password = "a wrong hunter2"
	scheme := []string{"tcp", "tcp", "tls", "ws", "json", "http"}[n%6]
	conn, err := g.s.openFrom(client, scheme)
	if err != nil {
		g.lost.Add(1)
		return
	}
	defer (&fuzzer{conn: conn}).close()
	_ = conn.SetDeadline(time.Now().Add(atMost))
	basic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n\r\n"
	var answer string
	switch scheme {
	case "json":
		if upgraded(conn, "/ws", basic) {
			_, _ = io.WriteString(conn, frame(0x81, `{"type":"join","room":"garage"}`))
		}
		all, _ := io.ReadAll(io.LimitReader(conn, 4096))
		answer = string(all)
	case "http":
		_, _ = io.WriteString(conn, "GET /api/v1/rooms HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+basic)
		all, _ := io.ReadAll(io.LimitReader(conn, 4096))
		answer = string(all)
	default:
		version := 4 + byte(n/6%2)
		says := (&wire{version: version}).connection("x", user, password)
		if scheme == "ws" && upgraded(conn, "/mqtt", "\r\n") {
			says = frame(0x82, says)
		}
		_, _ = io.WriteString(conn, says)
		all, _ := io.ReadAll(io.LimitReader(conn, 4096))
		if scheme == "ws" {
			all = all[min(2, len(all)):] // the head of the frame
		}
		answer = connack(version, string(all))
	}
	switch {
	case strings.Contains(answer, `"code":401`), strings.Contains(answer, " 401 "):
		g.refused.Add(1)
	case strings.Contains(answer, "no join came"), strings.Contains(answer, `"code":503`), strings.Contains(answer, " 503 "), strings.Contains(answer, `"code":429`), strings.Contains(answer, " 429 "):
		g.busy.Add(1)
	case answer == "":
		g.lost.Add(1)
	default:
		g.odd.Store(&answer)
	}
}

// Guessing passwords without end, which has them hashed, does not hold up those
// who are in.
func TestThreatBadLoginsWithoutEndDoNotHoldUpSignaling(t *testing.T) {
	threat.Row(t, 29, threat.MQTT|threat.JSON|threat.HTTP)
	cert, key := writeCertificate(t)
	p := startBinary(t, os.Args[0], []string{asProgram + "=1"}, "--users="+usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd}),
		"--tls-cert="+cert, "--tls-key="+key, "--log-level=error", "--trusted-proxy=127.0.0.1")
	p.trust = &tls.Config{RootCAs: x509.NewCertPool()}
	pem, err := os.ReadFile(cert)
	if err != nil || !p.trust.RootCAs.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	alice, cam := p.member(t, jsonWS, "alice", alicePwd), p.member(t, mqtt3TCP, "cam1", camera1)
	alice.sees("cam1")
	b := &besieged{site: p.site, canaries: &canaries{mqtt: cam, json: alice}}
	lasting := time.Duration(times(3, 30)) * time.Second
	quiet := b.songsFor(lasting)
	g := p.startGuesses(times(50, 500)) // with the race detector the guesser alone takes the machine
	loud := b.songsFor(lasting)
	g.end()
	t.Logf("%d guesses in %v: %d were refused, %d told that it is too busy, %d without an answer", g.made.Load(), lasting, g.refused.Load(), g.busy.Load(), g.lost.Load())
	if odd := g.odd.Load(); odd != nil {
		t.Errorf("a guess was answered with %q", *odd)
	}
	if g.lost.Load() > g.made.Load()/20 || g.refused.Load() == 0 {
		t.Errorf("of %d guesses %d were refused, and %d not answered", g.made.Load(), g.refused.Load(), g.lost.Load())
	}
	t.Logf("signaling, there and back: quiet %v; under guesses %v", quiet, loud)
	if loud.p99 > 2*quiet.p99+2*time.Second { // it should be twice, on a machine that is not busy, with the guesser elsewhere
		t.Errorf("p99 is %v, when quiet %v", loud.p99, quiet.p99)
	}
	if log := p.Log.String(); strings.Contains(log, "panic") || strings.Contains(log, "hunter2") {
		t.Error("the log shows a secret, or a panic")
	}
}

// songsFor has the canaries sing for so long.
func (b *besieged) songsFor(lasting time.Duration) (s pace) {
	song := b.startChoir()
	<-time.After(lasting)
	s.p50, s.p99, s.worst = song.end()
	return s
}

// pace is how long songs take.
type pace struct{ p50, p99, worst time.Duration }

func (p pace) String() string {
	return fmt.Sprintf("median %v, p99 %v, worst %v", p.p50, p.p99, p.worst)
}

// connack is what all that was answered, a CONNACK, says, in the words of HTTP.
func connack(version byte, all string) string {
	if len(all) < 4 || all[0] != 0x20 {
		return all
	}
	switch code := all[3]; {
	case version == 4 && code == 3, version == 5 && (code == 0x88 || code == 0x89 || code == 0x9f || code == 0x97):
		return " 503 "
	case version == 4 && (code == 4 || code == 5), version == 5 && (code == 0x86 || code == 0x87):
		return " 401 "
	default:
		return fmt.Sprintf("CONNACK %#x", code)
	}
}

// upgraded makes a WebSocket of conn. What comes after the answer stays in conn, as
// nothing does before the client has said something.
func upgraded(conn net.Conn, path, header string) bool {
	_, _ = io.WriteString(conn, strings.TrimSuffix(fmt.Sprintf(slowUpgrade, path), "\r\n")+header)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	return err == nil && answer.StatusCode == http.StatusSwitchingProtocols
}

// openFrom opens a transport as if from another address, by a PROXY header.
func (s *site) openFrom(client, scheme string) (net.Conn, error) {
	dial := net.Dialer{Timeout: atMost}
	conn, err := dial.Dial("tcp", s.MQTT)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 40000 1883\r\n", client); err != nil || scheme != "tls" {
		return conn, err
	}
	return tls.Client(conn, &tls.Config{RootCAs: s.trust.RootCAs, ServerName: "localhost"}), nil
}
