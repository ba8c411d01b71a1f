package door

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// startTLSOnly is a door for TLS only, and a listener from any address.
func startTLSOnly(t *testing.T, config Config) *pipes {
	t.Helper()
	config.TLS, config.TLSOnly = serverTLS(), true
	d, p := start(t, config), newPipes()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Serve(p)
	}()
	t.Cleanup(func() {
		d.Close()
		<-done
	})
	return p
}

func TestTLSOnlyAnswersPlainMQTTInItsVersion(t *testing.T) {
	p, n := startTLSOnly(t, Config{}), byte(len(tlsOnly))
	connack5 := string([]byte{0x20, n + 6, 0, 0x87, n + 3, 0x1f, 0, n}) + tlsOnly // MQTT 5, 3.2
	for name, c := range map[string]struct{ from, connect, answer string }{
		"3.1.1":                {"192.0.2.1:5", string(connect), "\x20\x02\x00\x05"},
		"3.1":                  {"192.0.2.1:5", "\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04cam1", "\x20\x02\x00\x05"},
		"5":                    {"192.0.2.1:5", "\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04cam1", connack5},
		"of IPv6":              {"[2001:db8::1]:5", string(connect), "\x20\x02\x00\x05"},
		"a length of four":     {"192.0.2.1:5", "\x10\x90\x80\x80\x00" + string(connect[2:]), "\x20\x02\x00\x05"},
		"a length of five":     {"192.0.2.1:5", "\x10\x90\x80\x80\x80\x80\x00" + string(connect[2:]), ""},
		"half a CONNECT":       {"192.0.2.1:5", "\x10\x10\x00", ""},
		"loopback":             {"127.0.0.1:5", string(connect), string(connack)},
		"loopback as of IPv6":  {"[::ffff:127.0.0.1]:5", string(connect), string(connack)},
		"neither MQTT nor any": {"192.0.2.1:5", "\x00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			client := p.connect(c.from)
			defer client.Close()
			client.SetDeadline(time.Now().Add(30 * time.Second))
			go func() {
				io.WriteString(client, c.connect)
				if c.answer == "" {
					client.Close() // it has no more to say
				}
			}()
			got := make([]byte, len(c.answer))
			if _, err := io.ReadFull(client, got); c.answer != "" && (err != nil || string(got) != c.answer) {
				t.Errorf("% x %q, %v, want % x", got, got, err, c.answer)
			}
		})
	}
}

func TestTLSOnlyRefusesPlainRequestsInWordsButForChallenges(t *testing.T) {
	challenge := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/challenge" {
				io.WriteString(w, "proof")
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	p := startTLSOnly(t, Config{Plain: challenge})
	for _, c := range []struct {
		from, path string
		secure     bool
		status     int
		words      string
	}{
		{"192.0.2.1:5", "/x", false, 403, tlsOnly},
		{"192.0.2.1:5", "/challenge", false, 200, "proof"},
		{"192.0.2.1:5", "/x", true, 200, "hello /x"},
		{"127.0.0.1:5", "/x", false, 200, "hello /x"},
	} {
		var client net.Conn = p.connect(c.from)
		client.SetDeadline(time.Now().Add(30 * time.Second))
		if c.secure {
			client = tls.Client(client, clientTLS())
		}
		go io.WriteString(client, "GET "+c.path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		problem := answer.Header.Get("Content-Type") == "application/problem+json"
		if answer.StatusCode != c.status || !bytes.Contains(body, []byte(c.words)) || problem != (c.status == 403) || c.status == 403 && !strings.Contains(string(body), `"reason":"forbidden"`) {
			t.Errorf("%+v: %d %s", c, answer.StatusCode, body)
		}
		client.Close()
	}
}

func TestTLSOnlyNeedsTLS(t *testing.T) {
	if _, err := New(Config{MQTT: serveMQTT, HTTP: http.NotFoundHandler(), TLSOnly: true}); err == nil {
		t.Error("a door that nobody can pass was made")
	}
}
