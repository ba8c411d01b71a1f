package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A CONNECT of MQTT 3.1.1 and of 5, and the CONNACK that lets in.
const (
	connect3 = "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04cam1"
	connect5 = "\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04cam1"
)

// mqttConnect says CONNECT on c and reads the CONNACK.
func mqttConnect(t *testing.T, c io.ReadWriter, connect string) {
	t.Helper()
	io.WriteString(c, connect)
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal("no CONNACK:", err)
	}
	if head[0] != 0x20 || head[3] != 0 {
		t.Fatalf("CONNACK % x", head)
	}
	io.CopyN(io.Discard, c, int64(head[1])-2) // the properties of MQTT 5
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second)) // fails, rather than hangs
	return c
}

// get asks on a connection of its own, which is closed then.
func get(t *testing.T, method, url string, config *tls.Config) (*http.Response, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return answer, string(body)
}

func TestEveryListenerTakesEveryProtocol(t *testing.T) {
	cert, key := writeCertificate(t)
	s := startServer(t, "--listen=127.0.0.1:0", "--listen=127.0.0.1:0", "--tls-cert="+cert, "--tls-key="+key)
	trust := &tls.Config{InsecureSkipVerify: true}
	for _, addr := range s.Addrs {
		mqttConnect(t, dial(t, addr), connect3)
		mqttConnect(t, dial(t, addr), connect5)
		mqttConnect(t, tls.Client(dial(t, addr), trust), connect5)
		for _, scheme := range []string{"http", "https"} {
			if answer, body := get(t, "GET", scheme+"://"+addr+"/", trust); answer.StatusCode != 200 || !strings.Contains(strings.ToLower(body), "<html") {
				t.Errorf("%s page: %d\n%.200s", scheme, answer.StatusCode, body)
			}
		}
		for _, scheme := range []string{"ws", "wss"} {
			dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: trust}
			ws, _, err := dialer.Dial(scheme+"://"+addr+"/mqtt", nil)
			if err != nil {
				t.Fatal(err)
			}
			ws.WriteMessage(websocket.BinaryMessage, []byte(connect3))
			if _, answer, err := ws.ReadMessage(); err != nil || !bytes.Equal(answer, []byte("\x20\x02\x00\x00")) {
				t.Errorf("%s: CONNACK % x, %v", scheme, answer, err)
			}
			ws.Close()
		}
	}
}

func TestProbesTellHealthAndTakeGETAndHEADOnly(t *testing.T) {
	s := startServer(t)
	for path, word := range map[string]string{"/healthz": "ok", "/readyz": "ready"} {
		if answer, body := get(t, "GET", s.URL+path, nil); answer.StatusCode != 200 || body != word || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: %d %q %v", path, answer.StatusCode, body, answer.Header)
		}
		if answer, body := get(t, "HEAD", s.URL+path, nil); answer.StatusCode != 200 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, answer.StatusCode, body)
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
			if answer, _ := get(t, method, s.URL+path, nil); answer.StatusCode != 405 || answer.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow %q", method, path, answer.StatusCode, answer.Header.Get("Allow"))
			}
		}
	}
}

func TestEveryAnswerForbidsSniffing(t *testing.T) {
	s := startServer(t)
	for _, path := range []string{"/", "/healthz", "/readyz", "/mqtt", "/ws", "/none"} {
		if answer, _ := get(t, "GET", s.URL+path, nil); answer.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, answer.Header)
		}
	}
	if answer, _ := get(t, "GET", s.URL+"/", nil); !strings.Contains(answer.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("the page may be framed: %v", answer.Header)
	}
}

func TestForeignPageIsRefusedAtEveryWebSocket(t *testing.T) {
	s := startServer(t)
	for _, path := range []string{"/ws", "/mqtt"} {
		for header, value := range map[string]string{"Origin": "https://evil.example", "Host": "evil.example"} {
			dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}}
			_, answer, err := dialer.Dial("ws://"+s.MQTT+path, http.Header{header: {value}})
			if err == nil || answer == nil || answer.StatusCode != http.StatusForbidden {
				t.Errorf("%s with %s %s: %v %v", path, header, value, err, answer)
			}
		}
	}
}

func TestStopDrainsAndReadyzSaysSoAtOnce(t *testing.T) {
	s := startServer(t)
	client := dial(t, s.MQTT)
	mqttConnect(t, client, connect5)

	s.stop()
	packet := make([]byte, 3)
	if _, err := io.ReadFull(client, packet); err != nil || packet[0] != 0xe0 || packet[2] != 0x8b {
		t.Errorf("on the MQTT connection % x, %v, want DISCONNECT 0x8B", packet, err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.MQTT); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

func TestReadyzIs503WhileDraining(t *testing.T) {
	h := &house{overload: newOverload(slog.New(slog.DiscardHandler), 0)}
	for draining, want := range map[bool]string{false: "200 ready", true: "503 draining"} {
		h.draining.Store(draining)
		w := httptest.NewRecorder()
		probe(h.ready).ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if got := fmt.Sprint(w.Code, " ", w.Body); got != want {
			t.Errorf("draining %v: %s, want %s", draining, got, want)
		}
	}
}

func TestBusyPortIsExplained(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	free := "127.0.0.1:0"
	var stderr bytes.Buffer
	if code := run([]string{"serve", "--dev", "--listen=" + free, "--listen=" + addr}, io.Discard, &stderr); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	for _, want := range []string{"cannot listen on " + addr, "in use", "--listen", ":" + port} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, stderr.String())
		}
	}
	if strings.Contains(stderr.String(), "ready") {
		t.Errorf("it said ready:\n%s", stderr.String())
	}
}

func TestSecondSignalLeavesAtOnce(t *testing.T) {
	signals := make(chan os.Signal)
	stopped, left := make(chan struct{}), make(chan struct{})
	go obey(signals, func() { close(stopped) }, func() { close(left) })
	signals <- syscall.SIGTERM
	<-stopped
	select {
	case <-left:
		t.Fatal("it left at the first signal")
	default:
	}
	signals <- syscall.SIGINT
	<-left
}

// The program as a process of its own.
func TestProgramSaysReadyAndExitsWith0AtSIGTERM(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		program := exec.Command(os.Args[0], "serve", "--dev", "--listen=127.0.0.1:0", "--listen=127.0.0.1:0")
		program.Env = append(os.Environ(), asProgram+"=1")
		stderr, err := program.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(stderr)
		warning, _ := lines.ReadString('\n')
		if !strings.Contains(warning, "WARNING") || !strings.Contains(warning, "anyone") {
			t.Errorf("first line %q, want a warning", warning)
		}
		ready, _ := lines.ReadString('\n')
		found := regexp.MustCompile(`^ready mqtt\+http\+ws on (127\.0\.0\.1:\d+), (127\.0\.0\.1:\d+); page (http://127\.0\.0\.1:\d+)/\n$`).FindStringSubmatch(ready)
		if found == nil {
			program.Process.Kill()
			t.Fatalf("second line %q", ready)
		}
		for _, addr := range found[1:3] {
			mqttConnect(t, dial(t, addr), connect3)
		}
		if answer, _ := get(t, "GET", found[3]+"/readyz", nil); answer.StatusCode != 200 {
			t.Errorf("/readyz: %d", answer.StatusCode)
		}
		program.Process.Signal(sig)
		rest, _ := io.ReadAll(lines)
		if err := program.Wait(); err != nil {
			t.Errorf("after %v: %v\n%s", sig, err, rest)
		}
	}
}

// Whoever is to give it certificates does not answer, and may not for minutes.
func TestProgramStopsWhileItWaitsForCertificates(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	program := exec.Command(os.Args[0], "serve", "--dev", "--listen=127.0.0.1:0", "--acme=cam.example.org", "--acme-cache="+t.TempDir())
	program.Env = append(os.Environ(), asProgram+"=1", "HTTPS_PROXY=http://"+silent.Addr().String(), "NO_PROXY=")
	stderr, err := program.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	hangs := time.AfterFunc(atMost, func() { program.Process.Kill() })
	defer hangs.Stop()
	_ = silent.(*net.TCPListener).SetDeadline(time.Now().Add(atMost))
	asked, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	program.Process.Signal(syscall.SIGTERM)
	said, _ := io.ReadAll(stderr)
	if err := program.Wait(); err != nil || !strings.Contains(string(said), "stopping") {
		t.Errorf("it does not stop: %v\n%s", err, said)
	}
}

func TestReadyLineNamesEachAddressAndAPageToOpen(t *testing.T) {
	addr := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct {
		addrs []net.Addr
		tls   bool
		want  string
	}{
		{[]net.Addr{addr("127.0.0.1:1883"), addr("127.0.0.1:8080")}, false, "ready mqtt+http+ws on 127.0.0.1:1883, 127.0.0.1:8080; page http://127.0.0.1:8080/"},
		{[]net.Addr{addr("127.0.0.1:1883")}, false, "ready mqtt+http+ws on 127.0.0.1:1883; page http://127.0.0.1:1883/"},
		{[]net.Addr{addr("[::]:8883"), addr("[::]:443")}, true, "ready mqtt+http+ws, with and without tls, on [::]:8883, [::]:443; page https://localhost:443/"},
		{[]net.Addr{addr("[::1]:8080")}, false, "ready mqtt+http+ws on [::1]:8080; page http://[::1]:8080/"},
	} {
		if got := readyLine(c.addrs, c.tls, false); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

func TestLimitOfSettingsReachesTheParts(t *testing.T) {
	s := startServer(t, "--limit-unauthenticated=2")
	for range 2 {
		dial(t, s.MQTT)
	}
	third := dial(t, s.MQTT)
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection got an answer")
	}
}

func TestCameraOnMQTTAndViewerOnWebSocketAreInTheSameRoom(t *testing.T) {
	s := startServer(t)
	camera := dial(t, s.MQTT)
	mqttConnect(t, camera, connect3)
	io.WriteString(camera, packet(0x82, "\x00\x01", text("rtc/v1/garage/to/cam1/+"), "\x00"))
	viewer, _, err := websocket.DefaultDialer.Dial(s.WS, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Close()
	viewer.SetReadDeadline(time.Now().Add(30 * time.Second))
	viewer.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","id":1,"room":"garage","peer":"alice"}`))
	await := func(want ...string) {
		t.Helper()
		for {
			_, frame, err := viewer.ReadMessage()
			if err != nil {
				t.Fatalf("waiting for %v: %v", want, err)
			}
			if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(string(frame), w) }) {
				return
			}
		}
	}
	await(`"joined"`, `"alice"`)
	io.WriteString(camera, packet(0x30, text("rtc/v1/garage/to/alice/cam1"), `{"type":"msg","data":"hi"}`))
	await(`"from":"cam1"`, `"data":"hi"`)
	viewer.WriteMessage(websocket.TextMessage, []byte(`{"type":"msg","id":2,"to":"cam1","data":"hello"}`))
	await(`"ok"`, `"id":2`)
	s.stop()
	await(`"goaway"`)
}

// packet is an MQTT packet of less than 128 bytes, text a string in one.
func packet(header byte, parts ...string) string {
	body := strings.Join(parts, "")
	return string([]byte{header, byte(len(body))}) + body
}

func text(s string) string { return string([]byte{0, byte(len(s))}) + s }
