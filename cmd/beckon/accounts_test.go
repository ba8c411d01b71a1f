package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
	"golang.org/x/crypto/argon2"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/door"
	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

const (
	camera1  = "hunter2 of cam1"
	alicePwd = "hunter2 of alice"
)

// usersFile writes accounts for cam1, a device, and alice, both peers of garage.
// Without a password an account logs in by certificate only.
func usersFile(t testing.TB, passwords map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.yaml")
	for name, password := range passwords {
		account := auth.Account{Name: name, Device: name == "cam1", Grants: []topics.Grant{{Room: "garage", Role: topics.Peer}}}
		if password != "" {
			account.Password = auth.HashPassword(password)
		}
		if err := auth.SetUser(path, account); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// cheapHash is a hash that costs next to nothing, for tests that log in often.
func cheapHash(password string) string {
	salt := []byte("sixteen of these")
	b64 := base64.RawStdEncoding.EncodeToString
	return "$argon2id$v=19$m=64,t=1,p=1$" + b64(salt) + "$" + b64(argon2.IDKey([]byte(password), salt, 1, 64, 1, 32))
}

// replace puts text in the place of a file, at once.
func replace(t testing.TB, path, text string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

const secret = "hunter2, the secret of tokens, is long enough"

// tokenOf makes a token for a peer of garage.
func tokenOf(t testing.TB, name string, ttl time.Duration) string {
	t.Helper()
	signer, err := auth.New(auth.Config{JWTKey: writeFile(t, "jwt.key", secret)})
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := signer.SignToken(auth.Claims{Name: name, Rooms: []string{"garage"}, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// login connects with credentials: a user name and a password, or a token.
func (s *site) login(t testing.TB, at entrance, user, password string) (*caller, error) {
	t.Helper()
	c := &caller{t: t, name: user, at: at, events: make(chan event, 10000), ended: make(chan string, 1), present: make(map[string]string)}
	byToken := strings.Count(password, ".") == 2
	var err error
	switch at.protocol {
	case "MQTT 3.1.1":
		c.line, err = s.mqtt3(t, c, func(o *paho3.ClientOptions) {
			o.SetPassword(password)
			o.SetUsername(user)
		})
	case "MQTT 5":
		c.line, err = s.mqtt5(t, c, func(p *paho5.Connect) {
			p.Password, p.PasswordFlag = []byte(password), password != ""
			if !byToken && password != "" {
				p.Username, p.UsernameFlag = user, true
			}
		})
	default:
		header := http.Header{}
		switch r := (&http.Request{Header: header}); {
		case byToken:
			header.Set("Authorization", "Bearer "+password)
		case password != "":
			r.SetBasicAuth(user, password)
		}
		if at.protocol == "HTTP" {
			l := s.http(t, c)
			l.header, c.line = header, l
			break
		}
		c.line, err = s.jsonWith(t, c, header)
	}
	return c, err
}

// jsonWith is site.json with a header.
func (s *site) jsonWith(t testing.TB, c *caller, header http.Header) (*lineJSON, error) {
	l := &lineJSON{me: c.name, replies: make(chan reply, 10000), gone: make(chan struct{})}
	dialer := websocket.Dialer{TLSClientConfig: s.trust, HandshakeTimeout: atMost}
	var err error
	if l.ws, _, err = dialer.Dial(c.at.scheme+"://"+s.MQTT+"/ws", header); err != nil {
		return nil, err
	}
	go func() {
		defer close(l.gone)
		c.end(l.read(c.events))
	}()
	t.Cleanup(func() {
		_ = l.ws.Close()
		<-l.gone
	})
	return l, nil
}

// member logs in and joins garage.
func (s *site) member(t testing.TB, at entrance, user, password string) *caller {
	t.Helper()
	c, err := s.login(t, at, user, password)
	if err != nil {
		t.Fatalf("%s does not get in by %v: %v", user, at, err)
	}
	c.join("garage")
	return c
}

var oneOfEach = []entrance{mqtt3TCP, mqtt5TCP, jsonWS, mqtt5WS, mqtt5TLS, jsonWSS, sseHTTP}

func TestPasswordLogsInAtEveryDoorAndAWrongOneDoesNot(t *testing.T) {
	t.Parallel()
	threat.Row(t, 29, threat.TCP|threat.TLS5|threat.WS5|threat.JSON|threat.HTTP)
	s := startSite(t, "--users="+usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd}), "--limit-logins=0")
	for _, at := range oneOfEach {
		alice := s.member(t, at, "alice", alicePwd)
		alice.leave()
		for user, password := range map[string]string{"alice": "wrong hunter2", "nobody": alicePwd} {
			c, err := s.login(t, at, user, password)
			if err == nil && at.protocol == "JSON" {
				err = c.line.join("garage")
				c.isEnded("", "4510")
			}
			if err == nil && at.protocol == "HTTP" {
				err = c.line.join("garage")
			}
			if err == nil {
				t.Errorf("%s got in by %v with %q", user, at, password)
			}
		}
	}
	if strings.Contains(s.Log.String(), alicePwd) || strings.Contains(s.Log.String(), "wrong hunter2") {
		t.Error("a password is in the log")
	}
}

func TestRevokedCameraIsOffWithinASecond(t *testing.T) {
	threat.Row(t, 9, threat.TCP|threat.TLS5|threat.WS5|threat.JSON|threat.HTTP)
	users := usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd})
	s := startSite(t, "--users="+users, "--limit-logins=0")
	full, err := os.ReadFile(users)
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(full), "\n- ")
	without := first + "\n"
	if strings.HasPrefix(first, "- name: cam1") {
		without = "- " + second
	}
	alice := s.member(t, jsonWS, "alice", alicePwd)
	for _, at := range oneOfEach {
		t.Run(at.String(), func(t *testing.T) {
			alice.t = t
			camera := s.member(t, at, "cam1", camera1)
			alice.present["cam1"] = ""
			alice.sees("cam1")
			since := time.Now()
			replace(t, users, without)
			camera.isEnded("0x87", "4510")
			if took := time.Since(since); took > time.Second {
				t.Errorf("it was on for another %v", took)
			}
			alice.until("cam1 offline", func(e event) bool {
				return e.kind == "presence" && e.from == "cam1" && (e.gone() || strings.Contains(e.text, `"online":false`))
			})
			if c, err := s.login(t, at, "cam1", camera1); err == nil && (strings.HasPrefix(at.protocol, "MQTT") || c.line.join("garage") == nil) {
				t.Error("it is let in again")
			}
			replace(t, users, string(full))
			eventually(t, "the account to be back", func() bool {
				c, err := s.login(t, mqtt5TCP, "cam1", camera1)
				if err == nil {
					c.leave()
				}
				return err == nil
			})
		})
	}
	alice.t = t
	alice.quiet(func(e event) bool { return e.kind == "presence" })
}

func TestBrokenUsersFileKeepsTheAccountsOfBefore(t *testing.T) {
	threat.Row(t, 33, 0)
	users := usersFile(t, map[string]string{"alice": alicePwd})
	s := startSite(t, "--users="+users)
	alice := s.member(t, jsonWS, "alice", alicePwd)
	replace(t, users, "- name: alice\n  pasword: x\n")
	s.awaitLog(t, "reload failed", "pasword", "users.yaml:2")
	alice.quiet()
	s.member(t, mqtt5TCP, "alice", alicePwd)
	s.Reload <- os.Interrupt // any signal: SIGHUP is what the program makes of it
	eventually(t, "a second word on it, after SIGHUP", func() bool { return strings.Count(s.Log.String(), "reload failed") >= 2 })
}

func TestTokensEndEndsTheConnectionWithTheRightCode(t *testing.T) {
	threat.Row(t, 9, threat.TCP|threat.TLS5|threat.WS5|threat.JSON|threat.HTTP)
	s := startSite(t, "--jwt-key="+writeFile(t, "jwt.key", secret))
	for _, at := range oneOfEach {
		t.Run(at.String(), func(t *testing.T) {
			t.Parallel()
			name := strings.ToLower(strings.NewReplacer(" ", "-", ".", "-").Replace(at.String()))
			c := s.member(t, at, name, tokenOf(t, name, 2*time.Second))
			c.until("a word on it", func(e event) bool { return e.kind == "error" && strings.Contains(e.text, `"code":401`) })
			c.isEnded("0x87", "4510")
			if !strings.HasPrefix(at.protocol, "MQTT") {
				return
			}
			if _, err := s.login(t, at, name, tokenOf(t, name, time.Minute)); err != nil {
				t.Errorf("a new token does not let it in: %v", err)
			}
		})
	}
}

func TestRefreshKeepsAWebSocketAlive(t *testing.T) {
	s := startSite(t, "--jwt-key="+writeFile(t, "jwt.key", secret))
	alice := s.member(t, jsonWS, "alice", tokenOf(t, "alice", 2*time.Second))
	bob := s.member(t, jsonWS, "bob", tokenOf(t, "bob", 2*time.Second))
	refresh := func(token string) reply {
		r, err := alice.line.(*lineJSON).ask(func(id int) string { return fmt.Sprintf(`{"type":"refresh","id":%d,"token":%q}`, id, token) })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := refresh(tokenOf(t, "bob", time.Minute)); r.code != 403 {
		t.Errorf("a token of another: %s", r.text)
	}
	if r := refresh("x.y.z"); r.code != 401 {
		t.Errorf("no token: %s", r.text)
	}
	if r := refresh(tokenOf(t, "alice", time.Minute)); r.code != 0 {
		t.Fatalf("refresh: %s", r.text)
	}
	bob.isEnded("", "4510") // made later, so that of alice has ended, too
	alice.until("the leave of bob", func(e event) bool { return e.kind == "presence" && e.from == "bob" })
	alice.quiet(func(e event) bool { return e.kind == "error" || e.kind == "presence" })
}

func TestPlainListenerForTheNetworkIsWarnedOf(t *testing.T) {
	users := "--users=" + usersFile(t, map[string]string{"alice": alicePwd})
	cert, key := writeCertificate(t)
	for name, c := range map[string]struct {
		args  []string
		warns bool
	}{
		"every address":   {[]string{"--listen=:0"}, true},
		"loopback":        {[]string{"--listen=127.0.0.1:0", "--listen=[::1]:0"}, false},
		"TLS beside it":   {[]string{"--listen=:0", "--tls-cert=" + cert, "--tls-key=" + key}, true},
		"TLS and nothing": {[]string{"--listen=:0", "--tls-cert=" + cert, "--tls-key=" + key, "--tls-only"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, append(c.args, users)...)
			if warned := strings.Contains(s.Log.String(), "WARNING: passwords and tokens can come unencrypted"); warned != c.warns {
				t.Errorf("warned: %v\n%s", warned, s.Log)
			}
		})
	}
}

// TestBrokenAccountsDoNotStart is row 33 of package threat, for who may come in.
func TestBrokenAccountsDoNotStart(t *testing.T) {
	threat.Row(t, 33, 0)
	hash := auth.HashPassword(camera1)
	good := usersFile(t, map[string]string{"alice": alicePwd})
	key := writeFile(t, "jwt.key", secret)
	users := func(text string) []string { return []string{"serve", "--users=" + writeFile(t, "users.yaml", text)} }
	with := func(args ...string) []string { return append([]string{"serve", "--users=" + good}, args...) }
	refused(t, map[string]broken{
		"--dev with users":        {[]string{"serve", "--dev", "--users=" + good}, []string{"--dev lets anyone in, so --users would count for nothing"}},
		"--dev with a key":        {[]string{"serve", "--dev", "--jwt-key=" + key, "--auth-url=http://127.0.0.1:1"}, []string{"so --jwt-key, --auth-url would"}},
		"issuer alone":            {[]string{"serve", "--jwt-issuer=x"}, []string{"nobody could come in", "--jwt-issuer"}},
		"API keys alone":          {[]string{"serve", "--api-key=" + writeFile(t, "k.yaml", "[]")}, []string{"nobody could come in", "--api-key", "--jwt-key"}},
		"client CA alone":         {[]string{"serve", "--client-ca=x"}, []string{"nobody could come in", "--client-ca", "--users", "--tls-cert"}},
		"no users file":           {[]string{"serve", "--users=/none.yaml"}, []string{"--users", "/none.yaml"}},
		"users: a folder":         {[]string{"serve", "--users=" + t.TempDir()}, []string{"--users", "folder"}},
		"users: not YAML":         {users("a: [b"), []string{"--users", "users.yaml"}},
		"users: a map":            {users("alice: x"), []string{"users.yaml:1", "list"}},
		"users: unknown key":      {users("- name: a\n  pasword: x\n"), []string{"users.yaml:2", "pasword"}},
		"users: no name":          {users("- password: " + hash + "\n  rooms: garage\n"), []string{"users.yaml:1", "no name"}},
		"users: no grants":        {users("- name: a\n  password: " + hash + "\n"), []string{"account a may do nothing"}},
		"users: empty rooms":      {users("- name: a\n  password: " + hash + "\n  rooms: []\n"), []string{"users.yaml:3", "rooms"}},
		"users: bad role":         {users("- name: a\n  password: " + hash + "\n  rooms: garage\n  role: boss\n"), []string{"users.yaml:4", `"boss"`}},
		"users: plain password":   {users("- name: a\n  password: hunter22\n  rooms: garage\n"), []string{"users.yaml:2", "not a hash", "beckon passwd"}},
		"users: bad name":         {users("- name: a/b\n  password: " + hash + "\n  rooms: garage\n"), []string{"users.yaml:1", `"a/b"`}},
		"users: twice":            {users(strings.Repeat("- {name: a, password: "+hash+", rooms: garage}\n", 2)), []string{"users.yaml:2", "twice"}},
		"users: viewer of nobody": {users("- {name: a, password: " + hash + ", rooms: garage, role: viewer}\n"), []string{"viewer of nobody"}},
		"users: no password":      {users("- {name: a, rooms: garage}\n"), []string{"account a has no password", "--client-ca"}},
		"key not there":           {[]string{"serve", "--jwt-key=/none"}, []string{"--jwt-key", "/none"}},
		"key too short":           {[]string{"serve", "--jwt-key=" + writeFile(t, "short", "short")}, []string{"--jwt-key", "5 bytes", "32"}},
		"key of another kind":     {[]string{"serve", "--jwt-key=" + writeFile(t, "x.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, []string{"--jwt-key", "CERTIFICATE", "PUBLIC KEY"}},
		"key set not JSON":        {[]string{"serve", "--jwks=" + writeFile(t, "jwks.json", "keys")}, []string{"--jwks"}},
		"key set of HTTP":         {[]string{"serve", "--jwks=http://id.example/keys"}, []string{"--jwks", "https"}},
		"webhook no URL":          {[]string{"serve", "--auth-url=shop.example"}, []string{"--auth-url", "URL"}},
		"API keys, public key":    {with("--api-key="+writeFile(t, "k.yaml", "[]"), "--jwks="+writeFile(t, "jwks.json", `{"keys":[]}`)), []string{"--api-key", "--jwt-key"}},
		"API keys: no hash":       {with("--jwt-key="+key, "--api-key="+writeFile(t, "k.yaml", "- {name: shop, rooms: garage}\n")), []string{"k.yaml:1", "no hash"}},
		"negative logins":         {with("--limit-logins=-1"), []string{"--limit-logins is negative"}},
		"all at once": {
			append(users("- name: a/b\n"), "--jwt-key=/none", "--auth-url=x", "--tls-only", "--turn-ttl=1s", "--origin=*"),
			[]string{`"a/b"`, "--jwt-key", "--auth-url", "--tls-only needs", "--turn-ttl", "--origin"},
		},
	})
}

// otherAddress is an address of this machine that is not loopback.
func otherAddress(t testing.TB) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

// problemOf reads an answer of application/problem+json.
func problemOf(t testing.TB, answer *http.Response, body string) (reason, detail string) {
	t.Helper()
	var p struct {
		Status         int
		Reason, Detail string
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || answer.Header.Get("Content-Type") != "application/problem+json" || p.Status != answer.StatusCode {
		t.Errorf("%d is no problem: %v %v\n%s", answer.StatusCode, err, answer.Header, body)
	}
	return p.Reason, p.Detail
}

// The program as a process of its own.
func TestProgramReadsItsFilesAgainAtSIGHUP(t *testing.T) {
	users := usersFile(t, map[string]string{"alice": alicePwd})
	program := exec.Command(os.Args[0], "serve", "--users="+users, "--listen=127.0.0.1:0")
	program.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := program.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	await := func(words string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), words) {
				return
			}
		}
		t.Errorf("it never said %q", words)
	}
	await("ready")
	program.Process.Signal(syscall.SIGHUP)
	await("reloaded, as SIGHUP asks")
	program.Process.Signal(syscall.SIGTERM)
	for lines.Scan() {
	}
	if err := program.Wait(); err != nil {
		t.Error(err)
	}
}

// A stranger's connection that waits for another request is closed; that of a client
// that was let in, by whatever it has shown, is there still.
func TestRequestOfAnAccountKeepsItsConnectionLonger(t *testing.T) {
	key, hash := auth.NewAPIKey()
	known, err := auth.New(auth.Config{
		Users:   usersFile(t, map[string]string{"alice": alicePwd}),
		JWTKey:  writeFile(t, "jwt.key", secret),
		APIKeys: writeFile(t, "keys.yaml", "- {name: shop, hash: \""+hash+"\", rooms: [garage], names: [guest-1]}\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer known.Close()
	a := &accounts{Auth: known, refusals: newRefusals(slog.New(slog.DiscardHandler))}
	d, err := door.New(door.Config{
		Handshake: 200 * time.Millisecond,
		MQTT:      func(net.Conn) {},
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var err error
			if r.URL.Path == "/tokens" {
				_, _, err = a.mint(r.Context(), bearer(r), auth.Claims{Name: "guest-1", Rooms: []string{"garage"}})
			} else {
				_, err = a.authenticate(r.Context(), bridge.Credentials(r))
			}
			if err != nil {
				w.WriteHeader(http.StatusUnauthorized)
			}
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go d.Serve(l)
	type client struct {
		net.Conn
		answers *bufio.Reader
		ask     func(want int)
	}
	come := func(path, authorization string, want int) client {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(atMost))
		c := client{conn, bufio.NewReader(conn), nil}
		c.ask = func(want int) {
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n\r\n", path, authorization)
			answer, err := http.ReadResponse(c.answers, nil)
			if err != nil || answer.StatusCode != want {
				t.Errorf("%s: %v, %v, want %d", path, answer, err, want)
			}
		}
		c.ask(want)
		return c
	}
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+password))
	}
	account, shop := come("/", basic(alicePwd), 200), come("/tokens", "Bearer "+key, 200)
	stranger, thief := come("/", basic("hunter2 of nobody"), 401), come("/tokens", "Bearer hunter2", 401)
	for _, c := range []client{stranger, thief} {
		if b, err := c.answers.ReadByte(); err != io.EOF {
			t.Errorf("a stranger reads %v, %v, want the end", b, err)
		}
	}
	account.ask(200)
	shop.ask(200)
}
