//go:build unix

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pion "github.com/pion/turn/v5"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

const years = 365 * 24 * time.Hour

// How the servers of these tests are set up.
const (
	clockGrace  = 2 * time.Second
	clockHold   = 5 * time.Second
	clockLogins = 20 // failures a minute
)

// What lasts for a while lasts as long whatever becomes of the time of day; what
// ends at a time of day ends by it.
func TestThreatClockThatJumpsHurtsNobody(t *testing.T) {
	threat.Row(t, 32, threat.MQTT|threat.JSON|threat.HTTP)
	path := buildMovable(t)
	users := clockUsers(t)
	cert, key := writeCertificate(t)
	var jumps sync.WaitGroup // all at once, most of the time they wait
	for name, ahead := range map[string]time.Duration{
		"an hour forward": time.Hour, "ten years forward": 10 * years,
		"a day back": -24 * time.Hour, "ten years back": -10 * years,
	} {
		jumps.Go(func() {
			t.Run(name, func(t *testing.T) {
				m := startMovable(t, path, "--users="+users, "--jwt-key="+writeFile(t, "jwt.key", secret), "--tls-cert="+cert, "--tls-key="+key,
					"--turn-listen=127.0.0.1:0", "--trusted-proxy=127.0.0.1", "--grace="+clockGrace.String(), "--hold="+clockHold.String(),
					"--limit-logins="+strconv.Itoa(clockLogins), "--limit-connects-per-address=3", "--limit-connects-per-identity=0")
				m.trust = &tls.Config{RootCAs: x509.NewCertPool()}
				pem, err := os.ReadFile(cert)
				if err != nil || !m.trust.RootCAs.AppendCertsFromPEM(pem) {
					t.Fatal(err)
				}
				(&jump{movable: m, t: t, ahead: ahead}).run()
			})
		})
	}
	jumps.Wait()
}

// clockUsers has a singer for each door, in a room of their own, and others in
// garage. Their passwords cost nothing: this is not about hashes.
func clockUsers(t *testing.T) string {
	hash := cheapHash(alicePwd)
	var list strings.Builder
	account := func(name, more string) {
		fmt.Fprintf(&list, "- name: %s\n  password: %s\n  rooms: [garage, attic]\n%s", name, hash, more)
	}
	for i := range everyEntrance {
		account(fmt.Sprint("singer", i), "")
	}
	for _, name := range []string{"alice", "carol", "dave", "newcomer"} {
		account(name, "")
	}
	account("cam1", "  device: true\n")
	account("cam2", "  device: true\n")
	return writeFile(t, "users.yaml", list.String())
}

// jump is one run: the clock is set, and after a while set right again.
type jump struct {
	*movable
	t     *testing.T
	ahead time.Duration
}

func (j *jump) run() {
	t := j.t
	j.ban("203.0.113.2")
	silent, connected := j.silentClient(), time.Now()

	choir := j.assemble()
	short := map[entrance]*caller{}
	for _, at := range []entrance{mqtt3TCP, mqtt5TLS, mqtt5WS, jsonWS, sseHTTP} {
		name := fmt.Sprint("short", len(short))
		short[at] = j.member(t, at, name, tokenOf(t, name, 30*time.Minute))
	}
	lasting := j.member(t, jsonWSS, "lasting", tokenOf(t, "lasting", 9*years))
	alice := j.member(t, mqtt5TCP, "alice", alicePwd)
	relay := j.relay(j.credentials(alice))
	j.member(t, mqtt3TCP, "cam1", alicePwd).leave()
	j.member(t, mqtt5WSS, "cam2", alicePwd).leave()
	dave, frames := j.resumable()
	choir.sings(2)

	// What runs when the clock is set: a throttle, a hold, a resume, a grace.
	for range clockLogins {
		if code := j.tries(t, "tcp", "203.0.113.1", "nobody", "wrong hunter2"); code != 401 {
			t.Errorf("a wrong login is answered with %d", code)
		}
	}
	alice.send("cam1", `{"type":"offer","session":"k1","sdp":"v=0"}`)
	alice.send("cam2", `{"type":"offer","session":"k2","sdp":"v=0"}`)
	held := time.Now()
	carol := j.member(t, jsonWS, "carol", alicePwd)
	alice.sees("carol")
	key := resumeKey(t, dave)
	seen := frames.Load()
	dave.cut()
	carol.cut()
	cut := time.Now()

	j.set(t, j.ahead)
	set := time.Now()
	code := 0
	for range clockLogins / 2 { // one more is let through every 3 s, which a slow machine may have taken
		if code = j.tries(t, "tcp", "203.0.113.1", "nobody", "wrong hunter2"); code == 429 {
			break
		}
	}
	if code != 429 {
		t.Errorf("an address that is held up is answered with %d when the clock was set", code)
	}
	if code := j.knock("203.0.113.2"); code != banned {
		t.Errorf("a banned address is answered with %d when the clock was set", code)
	}
	back := j.member(t, mqtt5TCP, "cam2", alicePwd)
	back.until("the offer that was held", func(e event) bool { return e.kind == "message" && strings.Contains(e.text, `"k2"`) })
	j.resumes(key, int(seen))
	j.newTokens(j.ahead)
	for at, c := range short {
		j.endsIf(c, at, set, j.ahead > 30*time.Minute)
	}
	j.endsIf(lasting, jsonWSS, set, j.ahead > 9*years)
	j.toldNewCredentials(alice, relay, j.ahead)
	alice.until("that carol is gone", func(e event) bool { return e.gone() && e.from == "carol" })
	if took := time.Since(cut); took < clockGrace*8/10 || took > clockGrace+5*time.Second {
		t.Errorf("the grace of %v took %v", clockGrace, took)
	}
	alice.until("that cam1 did not come", func(e event) bool { return e.kind == "error" && strings.Contains(e.text, `"code":480`) })
	if took := time.Since(held); took < clockHold*8/10 || took > clockHold+5*time.Second {
		t.Errorf("an offer was held for %v, not for %v", took, clockHold)
	}
	newcomer := j.member(t, sseHTTPS, "newcomer", alicePwd)
	var presence struct{ Since int64 }
	alice.until("the newcomer", func(e event) bool {
		return e.kind == "presence" && e.from == "newcomer" && json.Unmarshal([]byte(e.text), &presence) == nil
	})
	j.isAbout("since", presence.Since, 0, j.ahead)
	choir.sings(5)

	j.set(t, 0)
	j.toldNewCredentials(alice, relay, 0)
	j.newTokens(0)
	choir.sings(5)

	j.inTime("the address that was held up to be looked at", func() bool {
		return j.tries(t, "tcp", "203.0.113.1", "nobody", "wrong hunter2") == 401
	})
	j.inTime("the banned address to be let in", func() bool { return j.knock("203.0.113.2") != banned })
	if err := <-silent; err != io.EOF || time.Since(connected) < 14*time.Second {
		t.Errorf("a client that says nothing for a keep-alive and a half of 15 s was cut after %v: %v", time.Since(connected), err)
	}
	choir.end()
	newcomer.quiet()
	if n := j.count("the clock was set"); n != 2 {
		t.Errorf("the log says %d times that the clock was set", n)
	}
	if log := j.Log.String(); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
		t.Error("the log has errors")
	}
}

// inTime waits for something by asking now and then: not so often that it would be
// a flood.
func (j *jump) inTime(what string, is func() bool) {
	j.t.Helper()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	late := time.After(atMost)
	for !is() {
		select {
		case <-again.C:
		case <-late:
			j.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// isAbout demands that at, Unix seconds by the server, is in that time.
func (j *jump) isAbout(what string, at int64, in, ahead time.Duration) {
	j.t.Helper()
	if off := time.Until(time.Unix(at, 0)) - in - ahead; off.Abs() > time.Minute {
		j.t.Errorf("%s is off by %v", what, off)
	}
}

// newTokens logs in with tokens of the right time.
func (j *jump) newTokens(ahead time.Duration) {
	j.t.Helper()
	for i, at := range []entrance{mqtt5TCP, jsonWS, sseHTTP} {
		name := fmt.Sprint("fresh", i)
		c, err := j.login(j.t, at, name, tokenOf(j.t, name, 30*time.Minute))
		if err == nil {
			err = c.line.join("garage")
		}
		if (err == nil) != (ahead < 30*time.Minute) {
			j.t.Errorf("a token of 30 min, %v ahead, by %v: %v", ahead, at, err)
		}
		if err == nil {
			c.leave()
		}
	}
}

// endsIf demands that the connection ends within 3 s of the setting, or goes on.
func (j *jump) endsIf(c *caller, at entrance, set time.Time, ends bool) {
	j.t.Helper()
	if !ends {
		select {
		case code := <-c.ended:
			j.t.Errorf("%v: ended with %s, its token is good", at, code)
		default:
			c.quiet(func(event) bool { return true })
		}
		return
	}
	c.isEnded("0x87", "4510")
	if took := time.Since(set); took > 5*time.Second { // a second, and what was asked since
		j.t.Errorf("%v: ended %v after the time came, at once", at, took)
	}
}

// credentials are those that a peer has for the relay.
func (j *jump) credentials(c *caller) topics.ICEServer {
	j.t.Helper()
	c.send(topics.Server, `{"type":"ice"}`)
	return j.told(c)
}

func (j *jump) told(c *caller) (server topics.ICEServer) {
	j.t.Helper()
	e := c.until("ICE servers", func(e event) bool { return e.from == topics.Server && strings.Contains(e.text, `"type":"ice"`) })
	var ice struct {
		ICEServers []topics.ICEServer `json:"iceServers"`
	}
	if err := json.Unmarshal([]byte(e.text), &ice); err != nil {
		j.t.Fatal(err)
	}
	for _, s := range ice.ICEServers {
		if s.Username != "" {
			return s
		}
	}
	j.t.Fatalf("no credentials in %s", e.text)
	return server
}

// toldNewCredentials demands that c is told credentials without asking, which end
// by the new time, and that the relay that it has is kept.
func (j *jump) toldNewCredentials(c *caller, has *pion.Client, ahead time.Duration) {
	j.t.Helper()
	server := j.told(c)
	end, _, _ := strings.Cut(server.Username, ":")
	at, err := strconv.ParseInt(end, 10, 64)
	if err != nil {
		j.t.Fatal(err)
	}
	j.isAbout("the end of credentials", at, 10*time.Minute, ahead)
	j.relay(server)
	peer, err := net.ResolveUDPAddr("udp4", strings.TrimSuffix(strings.TrimPrefix(server.URLs[0], "turn:"), "?transport=udp"))
	if err != nil {
		j.t.Fatal(err)
	}
	for range 2 { // the first time it may be told that the nonce has ended, and gets another (RFC 8489, 9.2.4)
		if err = has.CreatePermission(peer); err == nil {
			return
		}
	}
	j.t.Errorf("a relay that there was is not kept: %v", err)
}

// relay makes a relay.
func (j *jump) relay(with topics.ICEServer) *pion.Client {
	j.t.Helper()
	at := strings.TrimPrefix(strings.TrimSuffix(with.URLs[0], "?transport=udp"), "turn:")
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		j.t.Fatal(err)
	}
	c, err := pion.NewClient(&pion.ClientConfig{STUNServerAddr: at, TURNServerAddr: at, Username: with.Username, Password: with.Credential, Conn: conn})
	if err != nil {
		j.t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		j.t.Fatal(err)
	}
	made, err := c.Allocate()
	if err != nil {
		j.t.Fatalf("no relay with %s: %v", with.Username, err)
	}
	j.t.Cleanup(func() {
		_ = made.Close()
		c.Close()
		_ = conn.Close()
	})
	return c
}

// resumable is dave, who can resume, and how many frames he has got.
func (j *jump) resumable() (*caller, *atomic.Int64) {
	c, err := j.login(j.t, jsonWS, "dave", alicePwd)
	if err != nil {
		j.t.Fatal(err)
	}
	frames := new(atomic.Int64)
	l := c.line.(*lineJSON)
	l.more = `,"resume":true`
	l.known = func(string) bool { frames.Add(1); return false }
	if err := l.join("garage"); err != nil {
		j.t.Fatal(err)
	}
	return c, frames
}

func resumeKey(t *testing.T, c *caller) string {
	t.Helper()
	var joined struct{ Resume string }
	e := c.until("its welcome", func(e event) bool { return e.kind == "joined" })
	if err := json.Unmarshal([]byte(e.text), &joined); err != nil || joined.Resume == "" {
		t.Fatalf("no key in %s: %v", e.text, err)
	}
	return joined.Resume
}

func (j *jump) resumes(key string, seen int) {
	j.t.Helper()
	c, err := j.login(j.t, jsonWS, "dave", alicePwd)
	if err != nil {
		j.t.Fatal(err)
	}
	if err := c.line.(*lineJSON).resume("garage", key, seen); err != nil {
		j.t.Fatal(err)
	}
	e := c.until("its welcome", func(e event) bool { return e.kind == "joined" })
	if !strings.Contains(e.text, `"resumed":true`) {
		j.t.Errorf("not resumed: %s", e.text)
	}
}

// silentClient is one with a keep-alive of 10 s that never says anything again. It
// returns how its connection ends.
func (j *jump) silentClient() <-chan error {
	conn, err := j.open("tcp")
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, packet(0x10, text("MQTT"), "\x04\xc2\x00\x0a", text(""), text("newcomer"), text(alicePwd)))
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		j.t.Fatal(err)
	}
	ends := make(chan error, 1)
	go func() {
		_ = conn.SetReadDeadline(time.Now().Add(2 * atMost))
		_, err := conn.Read(make([]byte, 1))
		ends <- err
	}()
	return ends
}

const banned = -1

// knock connects from an address, and returns what the CONNACK says, or banned.
func (j *jump) knock(client string) int {
	conn, err := net.DialTimeout("tcp", j.MQTT, atMost)
	if err != nil {
		j.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(atMost))
	fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 40000 1883\r\n%s", client, connectAs(5, "x", "", "", ""))
	ack := make([]byte, 4)
	if _, err := io.ReadFull(conn, ack); err != nil {
		return banned
	}
	return int(ack[3])
}

// ban knocks until the address is banned.
func (j *jump) ban(client string) {
	j.t.Helper()
	for range 1000 {
		if j.knock(client) == banned {
			return
		}
	}
	j.t.Fatal("nothing bans the address")
}

// singers are at every door, in a ring; each says something to the next again and
// again, and nothing else may happen to them.
type singers struct {
	t       *testing.T
	all     []*caller
	stop    chan struct{}
	ears    chan struct{} // stops listening
	singing sync.WaitGroup
	hearing sync.WaitGroup
	heard   []atomic.Int64

	mu   sync.Mutex // guards what follows
	sent [][]time.Time
	most time.Duration
	odd  []string
}

// assemble has them begin.
func (j *jump) assemble() *singers {
	n := len(everyEntrance)
	s := &singers{t: j.t, stop: make(chan struct{}), ears: make(chan struct{}), heard: make([]atomic.Int64, n), sent: make([][]time.Time, n)}
	for i, at := range everyEntrance {
		c, err := j.login(j.t, at, fmt.Sprint("singer", i), alicePwd)
		if err != nil {
			j.t.Fatal(err)
		}
		c.join("attic")
		s.all = append(s.all, c)
	}
	for _, c := range s.all {
		for i := range s.all {
			if name := fmt.Sprint("singer", i); name != c.name {
				c.sees(name)
			}
		}
	}
	for i := range s.all {
		s.singing.Go(func() { s.sing(i) })
		s.hearing.Go(func() { s.listen(i) })
	}
	return s
}

func (s *singers) sing(i int) {
	pace := time.NewTicker(250 * time.Millisecond)
	defer pace.Stop()
	to := s.all[(i+1)%len(s.all)].name
	for n := 1; ; n++ {
		s.mu.Lock()
		s.sent[i] = append(s.sent[i], time.Now())
		s.mu.Unlock()
		if fate, err := s.all[i].line.send("attic", to, fmt.Sprintf(`{"type":"msg","data":%d}`, n)); fate != 0 || err != nil {
			s.note("%v sings: %d, %v", s.all[i].at, fate, err)
			return
		}
		select {
		case <-pace.C:
		case <-s.stop:
			return
		}
	}
}

func (s *singers) listen(i int) {
	from := (i + len(s.all) - 1) % len(s.all)
	for {
		select {
		case <-s.ears:
			return
		case code := <-s.all[i].ended:
			s.note("%v ended with %s", s.all[i].at, code)
			return
		case e := <-s.all[i].events:
			switch {
			case e.kind == "message" && e.from == s.all[from].name && e.text == fmt.Sprintf(`{"type":"msg","data":%d}`, s.heard[i].Load()+1):
				s.mu.Lock()
				s.most = max(s.most, time.Since(s.sent[from][s.heard[i].Load()]))
				s.mu.Unlock()
				s.heard[i].Add(1)
			case e.from == topics.Server && strings.Contains(e.text, `"type":"ice"`):
			default:
				s.note("%v heard %v", s.all[i].at, e)
			}
		}
	}
}

func (s *singers) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd = append(s.odd, fmt.Sprintf(format, args...))
}

// sings waits until each has heard n more.
func (s *singers) sings(n int64) {
	s.t.Helper()
	want := make([]int64, len(s.heard))
	for i := range want {
		want[i] = s.heard[i].Load() + n
	}
	for i := range want {
		eventually(s.t, fmt.Sprintf("%v to hear more", s.all[i].at), func() bool { return s.heard[i].Load() >= want[i] })
	}
}

// end demands that each heard all that was said to it, soon, and nothing else.
func (s *singers) end() {
	s.t.Helper()
	close(s.stop)
	s.singing.Wait()
	songs := 0
	for i := range s.heard {
		sent := int64(len(s.sent[(i+len(s.all)-1)%len(s.all)]))
		songs += int(sent)
		eventually(s.t, fmt.Sprintf("%v to hear all", s.all[i].at), func() bool { return s.heard[i].Load() == sent })
	}
	close(s.ears)
	s.hearing.Wait()
	for _, odd := range s.odd {
		s.t.Error(odd)
	}
	s.t.Logf("%d songs at %d doors, each arrived, the slowest in %v", songs, len(s.all), s.most)
	if s.most > 2*time.Second {
		s.t.Errorf("one took %v", s.most)
	}
}
