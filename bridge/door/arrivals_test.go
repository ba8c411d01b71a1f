package door

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func TestBudgetOfArrivalsIsAMeanWithTenSecondsOfItAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewArrivals[string](5, -1)
		in := 0
		for range 200 {
			if wait, ban := a.Take("x"); wait == 0 {
				in++
			} else if ban || wait > time.Second/5 {
				t.Fatalf("wait %v, ban %v", wait, ban)
			}
		}
		if in != 50 {
			t.Errorf("%d came in at once, want 50", in)
		}
		if wait, _ := a.Take("y"); wait != 0 {
			t.Error("another key waits")
		}
		time.Sleep(time.Second)
		for range 5 {
			if wait, _ := a.Take("x"); wait != 0 {
				t.Error("a second later there are not five more")
			}
		}
		if wait, _ := a.Take("x"); wait == 0 {
			t.Error("there are six more")
		}
	})
}

func TestBanLastsTenSecondsAndIsForWhoDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewArrivals[string](5, 50)
		takes := func(n int) (last time.Duration, ban bool) {
			for range n {
				last, ban = a.Take("x")
			}
			return last, ban
		}
		if _, ban := takes(100); ban {
			t.Error("banned when it was refused 50 times")
		}
		if wait, _ := takes(1); wait != banned {
			t.Errorf("wait %v at the 51st refusal", wait)
		}
		time.Sleep(banned - 1)
		if _, ban := takes(1); !ban {
			t.Error("the ban ended early")
		}
		time.Sleep(time.Nanosecond)
		if wait, _ := takes(50); wait != 0 {
			t.Error("it may not come back after the ban")
		}
		b := NewArrivals[string](5, 0)
		for range 51 {
			b.Take("x")
		}
		if _, ban := b.Take("x"); !ban {
			t.Error("without patience it is not banned at once")
		}
	})
}

// A fleet of cameras loses its way to the server, and all come back: after a
// refusal each within ten seconds, whatever it was told.
func TestFleetBehindOneAddressComesBackAsFastAsItsBudgetAllows(t *testing.T) {
	const fleet = 15_000
	synctest.Test(t, func(t *testing.T) {
		a := NewArrivals[netip.Prefix](DefaultConnectsPerAddress, DefaultConnectsPerAddress*arrivalsAtOnce)
		nat := netip.MustParsePrefix("203.0.113.7/32")
		begin := time.Now()
		var all sync.WaitGroup
		var refused, cut atomic.Int64
		for range fleet {
			all.Go(func() {
				time.Sleep(rand.N(time.Second))
				for {
					wait, ban := a.Take(nat)
					if wait == 0 {
						return
					}
					if refused.Add(1); ban {
						cut.Add(1)
					}
					time.Sleep(time.Second + rand.N(9*time.Second))
				}
			})
		}
		all.Wait()
		took, least := time.Since(begin), fleet/DefaultConnectsPerAddress*time.Second
		t.Logf("%d came back in %v; %d refused, of them %d without a word", fleet, took.Round(time.Second), refused.Load(), cut.Load())
		if took > least+least/2 {
			t.Errorf("%v, at the budget it takes %v", took, least)
		}
	})
}

func TestArrivalsKeepNoMoreThanSoManyKeysAndForgetTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewArrivals[int](1, 0)
		for i := range 2 * mostArrivals {
			a.Take(i)
		}
		if n := len(a.byKey); n != mostArrivals {
			t.Errorf("%d keys, want %d", n, mostArrivals)
		}
		time.Sleep(3 * time.Second)
		a.Take(-1)
		if n := len(a.byKey); n != 1 {
			t.Errorf("%d keys are left", n)
		}
	})
}

func TestNoBudgetOfArrivalsIsNoLimit(t *testing.T) {
	a := NewArrivals[string](0, 0)
	for range 10_000 {
		if wait, _ := a.Take("x"); wait != 0 {
			t.Fatal("refused")
		}
	}
}

// flooded is a door that has let in its budget of one address, which is behind a
// proxy, and of 198.51.100.1, which is not.
func flooded(t *testing.T, config Config) *pipes {
	t.Helper()
	config.ConnectsPerAddress, config.TLS = 1, serverTLS()
	p := startBehind(t, config)
	for range arrivalsAtOnce {
		for _, from := range []string{"192.0.2.1:5", "198.51.100.1:5"} {
			c := p.connect(from)
			c.SetDeadline(time.Now().Add(30 * time.Second))
			if from == "192.0.2.1:5" {
				io.WriteString(c, proxyHeaders["line, IPv4"].header)
			}
			c.Write(connect)
			io.ReadAll(c)
			c.Close()
		}
	}
	return p
}

func TestConnectionOverTheBudgetIsToldInItsProtocol(t *testing.T) {
	synctest.Test(t, toldOverTheBudget)
}

func toldOverTheBudget(t *testing.T) {
	const words = "too many new connections from this address"
	behind := proxyHeaders["line, IPv4"].header
	var log logs
	p := flooded(t, Config{Logger: log.logger()})
	open := func(from, header, says string) net.Conn {
		c := p.connect(from)
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(30 * time.Second))
		say(c, header+says)
		return c
	}
	for from, header := range map[string]string{"198.51.100.1:5": "", "192.0.2.1:5": behind} {
		answer := make([]byte, 200)
		n, _ := open(from, header, string(connect)).Read(answer)
		if got := answer[:n]; string(got) != "\x20\x02\x00\x03" {
			t.Errorf("%s: 3.1.1 is told % x", from, got)
		}
		n, _ = open(from, header, "\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04cam1").Read(answer)
		if got := answer[:n]; !bytes.HasPrefix(got[min(2, n):], []byte("\x00\x9f")) || !bytes.Contains(got, []byte(words)) {
			t.Errorf("%s: 5 is told %q", from, got)
		}
		r, err := http.ReadResponse(bufio.NewReader(open(from, header, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")), nil)
		if err != nil {
			t.Fatal(err)
		}
		var problem struct{ Reason, Detail string }
		err = json.NewDecoder(r.Body).Decode(&problem)
		if r.StatusCode != 429 || r.Header.Get("Retry-After") == "" || err != nil || problem.Reason != "rate-limited" || !strings.Contains(problem.Detail, words) {
			t.Errorf("%s: HTTP is told %d %v %v %v", from, r.StatusCode, r.Header, problem, err)
		}
	}
	if err := tls.Client(open("198.51.100.1:5", "", ""), clientTLS()).Handshake(); err == nil {
		t.Error("TLS was spoken with whom is refused")
	}
	for _, from := range []string{"203.0.113.99:5", "127.0.0.1:5"} {
		if all, _ := io.ReadAll(open(from, "", string(connect))); !strings.Contains(string(all), from) {
			t.Errorf("%s: %q", from, all)
		}
	}
	if n := strings.Count(log.String(), "too many new ones"); n != 1 {
		t.Errorf("%d lines in a minute, want 1", n)
	}
}

func TestConnectionFromATrustedAddressHasABudgetWithoutAHeader(t *testing.T) {
	for name, config := range map[string]Config{"in all": {Connects: 1}, "of its address": {ConnectsPerAddress: 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, in := startBehind(t, config), 0
				for refused := false; !refused && in < 2*arrivalsAtOnce; in++ {
					c := p.connect("192.0.2.1:5")
					say(c, string(connect))
					all, _ := io.ReadAll(c)
					refused = !strings.Contains(string(all), "192.0.2.1")
					c.Close()
				}
				if in != arrivalsAtOnce+1 {
					t.Errorf("connection %d was the first to be refused, want %d", in, arrivalsAtOnce+1)
				}
			})
		})
	}
}

func TestUpgradeThroughAProxyArrivesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := Hold(r); err != nil {
				w.WriteHeader(topics.AsError(err).Code.HTTP())
			}
		})
		p := startBehind(t, Config{HTTP: h, Connects: 1, ConnectsPerAddress: -1, UnauthenticatedPerAddress: -1})
		for i := range 2 * arrivalsAtOnce {
			want := 200
			if i >= arrivalsAtOnce {
				want = 429
			}
			if r := ask(t, p, "192.0.2.1:5", "X-Forwarded-For: 203.0.113.7"); r.StatusCode != want {
				t.Errorf("request %d: %d, want %d", i+1, r.StatusCode, want)
			}
		}
	})
}

func TestUpgradeOverTheBudgetOfItsClientIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			how := Hold
			if r.Header.Get("Says") == "request" {
				how = HoldRequest
			}
			if _, err := how(r); err != nil {
				w.WriteHeader(topics.AsError(err).Code.HTTP())
			}
		})
		d := start(t, Config{HTTP: h, TrustedProxies: trusted, ConnectsPerAddress: 1, UnauthenticatedPerAddress: -1})
		p := newPipes()
		go d.Serve(p)
		for i := range 2 * arrivalsAtOnce {
			want := 200
			if i >= arrivalsAtOnce {
				want = 429
			}
			if r := ask(t, p, "192.0.2.1:5", "X-Forwarded-For: 203.0.113.7"); r.StatusCode != want {
				t.Errorf("request %d: %d, want %d", i+1, r.StatusCode, want)
			}
		}
		for _, other := range []string{"X-Forwarded-For: 203.0.113.8", "X-Forwarded-For: 203.0.113.7\r\nSays: request"} {
			if r := ask(t, p, "192.0.2.1:5", other); r.StatusCode != 200 {
				t.Errorf("%s: %d", other, r.StatusCode)
			}
		}
	})
}
