package turn

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

const secret = "hunter2-9abcdef0123456789abcdef0"

var someday = time.Unix(1_700_000_000, 0)

func TestCredentialsAreThoseOfTheTURNRESTScheme(t *testing.T) {
	s, err := New(Config{
		URLs:   []string{"stun:a.example", "turn:b.example?transport=udp", "turns:b.example:443?transport=tcp"},
		Secret: []byte(secret), Now: func() time.Time { return someday },
	})
	if err != nil {
		t.Fatal(err)
	}
	got, ttl := s.ICEServers(topics.Identity{Name: "alice"})
	want := []topics.ICEServer{
		{URLs: []string{"stun:a.example"}},
		{
			URLs:     []string{"turn:b.example?transport=udp", "turns:b.example:443?transport=tcp"},
			Username: "1700000600:alice",
			// printf %s 1700000600:alice | openssl dgst -sha1 -hmac SECRET -binary | base64
			Credential: "hvJ8q7bjGO24MfFkp5SV3jsa7r8=",
		},
	}
	if !reflect.DeepEqual(got, want) || ttl != 10*time.Minute {
		t.Errorf("got %v, good for %v", got, ttl)
	}
}

func TestCredentialsEndWithTheIdentity(t *testing.T) {
	s, err := New(Config{URLs: []string{"turn:b.example"}, Secret: []byte(secret), Now: func() time.Time { return someday }})
	if err != nil {
		t.Fatal(err)
	}
	for left, want := range map[time.Duration]time.Duration{
		time.Hour: 10 * time.Minute, 3 * time.Minute: 3 * time.Minute,
		time.Second: time.Minute, -time.Hour: time.Minute,
	} {
		got, ttl := s.ICEServers(topics.Identity{Name: "alice", Expires: someday.Add(left)})
		if ttl != want || got[0].Username != username("alice", someday.Add(want)) {
			t.Errorf("an identity with %v left has %s, good for %v", left, got[0].Username, ttl)
		}
	}
}

func TestNothingEndsWithoutASecret(t *testing.T) {
	fixed, err := New(Config{URLs: []string{"turn:b.example"}, Username: "u", Credential: "c"})
	if err != nil {
		t.Fatal(err)
	}
	got, ttl := fixed.ICEServers(topics.Identity{Name: "alice"})
	if ttl != 0 || len(got) != 1 || got[0].Username != "u" || got[0].Credential != "c" {
		t.Errorf("got %v, good for %v", got, ttl)
	}
	stun, err := New(Config{URLs: []string{"stun:a.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, ttl := stun.ICEServers(topics.Identity{Name: "alice"}); ttl != 0 || len(got) != 1 || got[0].Username != "" {
		t.Errorf("got %v, good for %v", got, ttl)
	}
}

func TestAStrangeNameHasNoRelay(t *testing.T) {
	s, err := New(Config{URLs: []string{"stun:a.example", "turn:b.example"}, Secret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "_", "a:b", "a b", strings.Repeat("a", 65)} {
		if got, ttl := s.ICEServers(topics.Identity{Name: name}); ttl != 0 || len(got) != 1 {
			t.Errorf("%q gets %v, good for %v", name, got, ttl)
		}
	}
}

func TestURLsOfServers(t *testing.T) {
	for _, url := range []string{
		"stun:a.example", "stun:192.0.2.1:3478", "stuns:a.example:5349", "stun:[2001:db8::1]", "turn:[2001:db8::1]:3478",
		"turn:a.example", "turn:a.example:3478?transport=udp", "turn:a_b.example.?transport=tcp", "turns:a.example:443?transport=tcp",
	} {
		if relays, err := checkURL(url); err != nil || relays != strings.HasPrefix(url, "turn") {
			t.Errorf("%s: relays %v, %v", url, relays, err)
		}
	}
	for url, says := range map[string]string{
		"":                              "it takes stun:",
		"a.example":                     "it takes stun:",
		"a.example:3478":                "it takes stun:",
		"http://a.example":              "it takes stun:",
		"TURN:a.example":                "it takes stun:",
		"turn://a.example":              "it has no //",
		"turn:me:secret@a.example":      "it has no user",
		"turn:a.example/path":           "without a path",
		"turn:a.example#x":              "without a path",
		"stun:a.example?transport=udp":  "takes no ?transport=",
		"turn:a.example?transport=sctp": "transport=udp or transport=tcp",
		"turn:a.example?":               "transport=udp or transport=tcp",
		"turn:a.example:0":              "1 to 65535",
		"turn:a.example:":               "1 to 65535",
		"turn:a.example:65536":          "1 to 65535",
		"turn:a.example:+1":             "1 to 65535",
		"turn:[192.0.2.1]":              "no IPv6 address",
		"turn:[2001:db8::1":             "no IPv6 address",
		"turn:[fe80::1%eth0]":           "no IPv6 address",
		"turn:2001:db8::1":              "takes brackets",
		"turn:":                         "no host",
		"turn:a b":                      "no host",
		"turn:-a.example":               "no host",
		"turn:a..example":               "no host",
		"turn:a.example\n":              "no host",
	} {
		_, err := checkURL(url)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	_, err := New(Config{
		URLs:   []string{"turn://a.example", "stun:b.example?x", "turn:c.example", "turn:c.example"},
		Secret: []byte("short"), Username: "u", TTL: time.Second,
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, says := range []string{"no //", "takes no ?transport", "given twice", "takes one of them", "has 5 bytes", "would last 1s"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("it does not say %q:\n%v", says, err)
		}
	}
	for says, c := range map[string]Config{
		"needs the secret":     {URLs: []string{"turn:a.example"}},
		"no turn: or turns:":   {URLs: []string{"stun:a.example"}, Secret: []byte(secret)},
		"takes both":           {URLs: []string{"turn:a.example"}, Username: "u"},
		"one byte over and ov": {URLs: []string{"turn:a.example"}, Secret: make([]byte, 32)},
		"more than one line":   {URLs: []string{"turn:a.example"}, Secret: []byte("0123456789abcdef\n0123456789")},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

func TestSecretOfAFileLosesItsLineEnd(t *testing.T) {
	for _, file := range []string{secret, secret + "\n", secret + "\r\n"} {
		if got, err := ParseSecret([]byte(file)); err != nil || string(got) != secret {
			t.Errorf("%q: %q, %v", file, got, err)
		}
	}
	if _, err := ParseSecret([]byte("\n")); err == nil {
		t.Error("an empty file is taken")
	}
	if _, err := ParseSecret(NewSecret()); err != nil {
		t.Error(err)
	}
}

func FuzzUsername(f *testing.F) {
	for _, s := range []string{"1700000600:alice", ":", "1:", "-1:a", "99999999999999999999:a", "1:a:b", "1700000600:a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, end, err := parseUsername(s)
		if err == nil && (!topics.ValidName(name) || end.Unix() < 0) {
			t.Errorf("%q is %q until %v", s, name, end)
		}
	})
}
