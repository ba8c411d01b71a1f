package auth

import (
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// FuzzToken holds that no token gets in but one that was signed, and that one
// that was says what it says.
func FuzzToken(f *testing.F) {
	threat.Row(f, 8, 0)
	now := newClock()
	a := &Auth{Config: Config{Now: now.Now}}
	k, err := parseKey([]byte(tokenSecret))
	if err != nil {
		f.Fatal(err)
	}
	ec, err := newKey("e1", ring().ec.Public(), nil)
	if err != nil {
		f.Fatal(err)
	}
	keys := []key{k, ec}
	f.Add(`{"alg":"HS256","typ":"JWT"}`, claiming(now.Now()), true)
	f.Add(`{"alg":"HS256","kid":"x"}`, claiming(now.Now(), "room", `["a*","b"]`, "role", `"viewer"`, "peer", `"cam1"`, "device", "true", "nbf", "1"), true)
	f.Add(`{"alg":"none"}`, claiming(now.Now()), false)
	f.Add(`{"alg":"ES256","jwk":{}}`, `{"exp":1e999,"exp":"1","sub":["a"]}`, true)
	f.Add(`{"alg":"HS256","crit":[]}`, `null`, true)
	f.Add(`[]`, `[[[[[[[[[[[[[[[[[[[[[[`, true)
	f.Add("\xff{", "{\"sub\":\"\\ud800\"}", true)
	f.Fuzz(func(t *testing.T, header, claims string, sign bool) {
		token := forge(header, claims, "HS256", []byte(tokenSecret))
		if !sign {
			token = token[:strings.LastIndexByte(token, '.')+1] + "AAAA"
		}
		p, err := a.parseToken(token, keys)
		if err != nil {
			e, ok := plain(err).(*topics.Error)
			if !ok || e.Code != topics.Unauthorized {
				t.Errorf("the error is %v", err)
			}
			return
		}
		if !sign {
			t.Fatalf("a token that was not signed got in: %s . %s", header, claims)
		}
		id := p.identity()
		if !topics.ValidName(id.Name) || len(id.Grants) == 0 || !id.Expires.After(now.Now()) || id.Expires.After(now.Now().Add(farAhead)) || id.Stamp != k.stamp {
			t.Errorf("it is %+v", id)
		}
		checkGrants(t, id.Grants)
	})
}

func checkGrants(t *testing.T, grants []topics.Grant) {
	t.Helper()
	for _, g := range grants {
		if checkRooms(g.Room) != nil || g.Role < topics.Peer || g.Role > topics.Admin || topics.ValidName(g.Of) != (g.Role == topics.Viewer) {
			t.Errorf("a grant is %+v", g)
		}
	}
}

// FuzzUsers holds that a file is refused with words, or has accounts that hold
// to the rules.
func FuzzUsers(f *testing.F) {
	pw := cheap(password)
	for _, s := range []string{
		"- name: cam1\n  password: " + pw + "\n  rooms: garage\n",
		"- {name: a, password: " + pw + ", grants: [{rooms: [a, b*], role: viewer, peer: c}], topics: [home/#, publish: x, {subscribe: +/y}]}",
		"- &a {name: a, rooms: *a}", "- <<: {name: x}", "[]", "---\n---\n", "- ? [a]\n  : b", "- name: !!binary aGk=", "- name: |\n   x\n", "%YAML 1.1\n--- []",
		`[{"name":"a","rooms":"*","role":"admin","device":true}]`, "\xff\xfe-\x00", "- - - - - - - - -",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		begin := time.Now()
		u, err := parseUsers("users.yaml", []byte(content), topics.DefaultRoot, true)
		if took := time.Since(begin); len(content) < 4096 && took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if err != nil {
			return
		}
		if len(u.byName) == 0 {
			t.Error("a file without accounts was taken")
		}
		for name, a := range u.byName {
			if name != a.Name || !topics.ValidName(name) || len(a.Grants)+len(a.Publish)+len(a.Subscribe) == 0 {
				t.Errorf("an account is %+v", a.Account)
			}
			checkGrants(t, a.Grants)
			for _, filter := range append(a.Publish, a.Subscribe...) {
				if _, err := topics.DefaultRoot.ParseFilter(filter); err != topics.ErrOutside || strings.HasPrefix(filter, "$") || filter == "#" {
					t.Errorf("a filter is %q", filter)
				}
			}
		}
	})
}

// FuzzHash holds that a hash that is taken is written as it was read, and asks
// for no more than it may.
func FuzzHash(f *testing.F) {
	for _, s := range []string{cheap(password), "$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAA$AAAA", "$argon2id$v=19$m=64,t=1,p=255$$", "$$$$$$", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err != nil {
			return
		}
		if h.String() != s {
			t.Errorf("%q is written %q", s, h)
		}
		if h.memory > maxMemory || h.work() > maxWork || h.threads > maxThreads || len(h.key) > 64 || len(h.salt) > 64 {
			t.Errorf("it costs %+v", h.cost)
		}
	})
}

// FuzzWebhook holds the same of the webhook's answers.
func FuzzWebhook(f *testing.F) {
	now := newClock()
	w := &webhook{root: topics.DefaultRoot, now: now.Now}
	f.Add([]byte(answered))
	f.Add([]byte(`{"name":"a","grants":[{"rooms":["a","b"],"role":"admin"}],"topics":[{"publish":"x"}],"device":false,"ttl":-1,"expires":9e9}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := w.parse(data)
		if err != nil {
			return
		}
		if !topics.ValidName(a.id.Name) || a.until.After(now.Now().Add(webhookMaxTTL)) || !a.id.Expires.IsZero() && !a.id.Expires.After(now.Now()) {
			t.Errorf("it is %+v until %v", a.id, a.until)
		}
		checkGrants(t, a.id.Grants)
	})
}
