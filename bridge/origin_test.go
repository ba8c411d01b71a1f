package bridge_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestPageWithoutTLSIsNotTheServersOwnWhereTLSEndsHere(t *testing.T) {
	for origin, want := range map[string]bool{"https://cam.example": true, "http://cam.example": false} {
		r := httptest.NewRequest("GET", "https://cam.example/ws", nil)
		r.Header.Set("Origin", origin)
		if r.TLS == nil {
			t.Fatal("no TLS")
		}
		if err := (bridge.Origins{}).Check(r); (err == nil) != want {
			t.Errorf("%s: %v", origin, err)
		}
	}
}

func TestOriginIsAllowedOnlyWhenItIsTheSameHostOrListed(t *testing.T) {
	threat.Row(t, 10, 0)
	listed := bridge.Origins{Allowed: []string{"https://good.example", "http://10.0.0.5:8000", "capacitor://app"}}
	for _, c := range []struct {
		host    string
		origin  string // "-": no header
		allowed bool
	}{
		{"cam.example", "-", true},
		{"cam.example", "https://cam.example", true},
		{"cam.example", "http://cam.example", true},
		{"cam.example:443", "https://cam.example", true},
		{"cam.example:8080", "http://cam.example:8080", true},
		{"Cam.Example", "https://cam.example", true},
		{"[::1]:8080", "http://[::1]:8080", true},
		{"cam.example:8080", "http://cam.example", false},
		{"cam.example", "http://cam.example:8080", false},
		{"cam.example", "https://good.example", true},
		{"cam.example", "https://good.example:443", true},
		{"cam.example", "HTTPS://GOOD.example", true},
		{"cam.example", "http://10.0.0.5:8000", true},
		{"cam.example", "capacitor://app", true},
		{"cam.example", "http://10.0.0.5:80", false},
		{"cam.example", "http://good.example", false},
		{"cam.example", "https://good.example:8443", false},
		{"cam.example", "https://good.example.evil.com", false},
		{"cam.example", "https://evilgood.example", false},
		{"cam.example", "https://good.example@evil.com", false},
		{"cam.example", "https://good.example.", false},
		{"cam.example", "https://good.example/", false},
		{"cam.example", "https://good.example:", false},
		{"cam.example", "https://good.example:0443", false},
		{"cam.example", "https://good.example#", false},
		{"cam.example", "https://good.example?", false},
		{"cam.example", "https://good%2eexample", false},
		{"cam.example", "https://g\u043e\u043ed.example", false}, // Cyrillic o
		{"cam.example", "https://xn--gd-1lba.example", false},
		{"cam.example", "https://sub.good.example", false},
		{"cam.example", "null", false},
		{"cam.example", "", false},
		{"cam.example", "good.example", false},
		{"cam.example", "https://", false},
		{"cam.example", "file://", false},
		{"cam.example", "https://good.example https://evil.com", false},
		{"cam.example", "http://localhost:3000", false},
		{"cam.example", "https://" + strings.Repeat("a", 400), false},
		{"", "http://", false},
	} {
		check(t, listed, c.host, c.origin, c.allowed)
	}
}

func TestInDevOnlyLoopbackHostsAndPagesAreAllowed(t *testing.T) {
	dev := bridge.Origins{Dev: true}
	for _, c := range []struct {
		host, origin string
		allowed      bool
	}{
		{"localhost:8080", "-", true},
		{"LOCALHOST", "-", true},
		{"127.0.0.1:8080", "http://localhost:3000", true},
		{"127.8.9.1", "https://127.0.0.1", true},
		{"[::1]:8080", "http://[::1]:5173", true},
		{"[::ffff:127.0.0.1]", "-", true},
		{"evil.com", "-", false}, // DNS rebinding
		{"evil.com:8080", "http://evil.com:8080", false},
		{"localhost.evil.com", "-", false},
		{"127.0.0.1.evil.com", "-", false},
		{"127.1", "-", false},
		{"2130706433", "-", false},
		{"192.168.1.4:8080", "-", false},
		{"::1", "-", false},
		{"", "-", false},
		{"localhost:8080", "http://evil.com", false},
		{"localhost:8080", "http://localhost.evil.com", false},
		{"localhost:8080", "http://localhost@evil.com", false},
		{"localhost:8080", "http://127.0.0.1.evil.com", false},
		{"localhost:8080", "null", false},
		{"localhost:8080", "foo://localhost", false},
	} {
		check(t, dev, c.host, c.origin, c.allowed)
	}
}

func check(t *testing.T, o bridge.Origins, host, from string, allowed bool) {
	t.Helper()
	r := httptest.NewRequest("GET", "/ws", nil)
	r.Host = host
	r.Header.Set("X-Forwarded-Host", "evil.com")
	if from != "-" {
		r.Header["Origin"] = []string{from}
	}
	err := o.Check(r)
	if (err == nil) != allowed {
		t.Errorf("host %q, origin %q: allowed is %v, want %v (%v)", host, from, err == nil, allowed, err)
	}
	if err != nil && topics.AsError(err).Code != topics.Forbidden {
		t.Errorf("host %q, origin %q: %v, want 403", host, from, err)
	}
}

func TestForwardedHostIsNotBelieved(t *testing.T) {
	r := httptest.NewRequest("GET", "/ws", nil)
	r.Host = "cam.example"
	r.Header.Set("X-Forwarded-Host", "evil.com")
	r.Header.Set("Origin", "https://evil.com")
	if err := (bridge.Origins{}).Check(r); err == nil {
		t.Error("the origin of X-Forwarded-Host was allowed")
	}
}

func TestSecondOriginHeaderIsRefused(t *testing.T) {
	r := httptest.NewRequest("GET", "/ws", nil)
	r.Host = "cam.example"
	r.Header["Origin"] = []string{"https://cam.example", "https://evil.com"}
	if err := (bridge.Origins{}).Check(r); err == nil {
		t.Error("two origins were allowed")
	}
}

func TestRefusedOriginIsToldWhichFlagAllowsIt(t *testing.T) {
	r := httptest.NewRequest("GET", "/ws", nil)
	r.Host = "cam.example"
	r.Header.Set("Origin", "https://app.example")
	err := bridge.Origins{}.Check(r)
	if err == nil || !strings.Contains(err.Error(), "--origin https://app.example") {
		t.Errorf("error %v, want it to name the flag", err)
	}
}

func TestEveryMalformedOriginIsReported(t *testing.T) {
	err := bridge.Origins{Allowed: []string{"*", "https://ok.example", "null", "app.example", "https://a.example/path"}}.Validate()
	if err == nil {
		t.Fatal("malformed origins were accepted")
	}
	for _, want := range []string{`"*"`, `"null"`, `"app.example"`, `"https://a.example/path"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "ok.example") {
		t.Errorf("error %q names a good origin", err)
	}
}
