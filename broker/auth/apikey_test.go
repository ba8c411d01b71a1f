package auth

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func TestTokenIsNeverWiderThanItsAPIKey(t *testing.T) {
	shop, shopHash := NewAPIKey()
	staff, staffHash := NewAPIKey()
	keys := file(t, "keys.yaml", fmt.Sprintf(`
- name: shop
  hash: %s
  rooms: [shop-*, lobby]
  role: peer
- name: staff
  hash: %s
  names: [cam1, guest-*]
  device: true
  ttl: 24h
  grants:
    - {rooms: garage, role: viewer, peer: cam1}
    - {rooms: attic, role: observer}
    - {rooms: "yard*", role: admin}
`, shopHash, staffHash))
	a := newAuth(t, Config{APIKeys: keys, JWTKey: file(t, "key", tokenSecret), Users: file(t, "users.yaml", account("cam1")), Logins: -1})
	want := func(name, room string, role topics.Role, of string) Claims {
		return Claims{Name: name, Rooms: strings.Split(room, " "), Role: role, Peer: of}
	}
	tests := []struct {
		key     string
		want    Claims
		refusal string
	}{
		{shop, want("alice", "shop-1", 0, ""), ""},
		{shop, want("alice", "shop-1 shop-2 lobby", topics.Peer, ""), ""},
		{shop, want("alice", "shop-1*", topics.Peer, ""), ""},
		{shop, want("alice", "shop-*", topics.Viewer, "cam1"), ""},
		{shop, want("alice", "shop*", topics.Peer, ""), "room shop*"},
		{shop, want("alice", "*", topics.Peer, ""), "room *"},
		{shop, want("alice", "lobby*", topics.Peer, ""), "room lobby*"},
		{shop, want("alice", "shop-1 garage", topics.Peer, ""), "room garage"},
		{shop, want("alice", "shop-1", topics.Observer, ""), "as wide as observer"},
		{shop, want("alice", "shop-1", topics.Admin, ""), "as wide as admin"},
		{shop, want("cam1", "shop-1", topics.Peer, ""), "cam1 is an account here"},
		{shop, Claims{Name: "alice", Rooms: []string{"lobby"}, Device: true}, "devices"},
		{shop, Claims{Name: "alice", Rooms: []string{"lobby"}, TTL: time.Hour}, ""},
		{shop, Claims{Name: "alice", Rooms: []string{"lobby"}, TTL: time.Hour + 1}, "may live 1h0m0s"},
		{shop, Claims{Name: "+", Rooms: []string{"lobby"}}, "not a name"},
		{shop, Claims{Name: "alice"}, "0 rooms"},
		{staff, want("guest-1", "garage", topics.Viewer, "cam1"), ""},
		{staff, want("guest-1", "garage", topics.Viewer, "cam2"), "room garage"},
		{staff, want("guest-1", "garage", topics.Peer, ""), "as wide as peer"},
		{staff, want("alice", "garage", topics.Viewer, "cam1"), "not among the names"},
		{staff, want("guest-1", "attic", topics.Observer, ""), ""},
		{staff, want("guest-1", "attic", topics.Viewer, "cam1"), "room attic"},
		{staff, want("guest-1", "yard", topics.Admin, ""), ""},
		{staff, want("guest-1", "yard-2", topics.Observer, ""), ""},
		{staff, Claims{Name: "cam1", Rooms: []string{"yard"}, Device: true, TTL: 24 * time.Hour}, ""},
	}
	for _, test := range tests {
		token, expires, err := a.MintToken(context.Background(), topics.Credentials{Token: test.key}, test.want)
		if test.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), test.refusal) {
				t.Errorf("%+v: got %v, want %q", test.want, err, test.refusal)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", test.want, err)
			continue
		}
		id := a.lets(topics.Credentials{Token: token})
		if id.Name != test.want.Name || len(id.Grants) != len(test.want.Rooms) || !id.Expires.Equal(expires) || id.Device != test.want.Device {
			t.Errorf("%+v made %+v", test.want, id)
		}
	}
	for _, secret := range []string{shop, staff} {
		if strings.Contains(a.out.String(), secret) {
			t.Error("an API key was logged")
		}
	}
}

func TestWrongAPIKeysAreRefusedAndCounted(t *testing.T) {
	key, hash := NewAPIKey()
	a := newAuth(t, Config{APIKeys: file(t, "keys.yaml", "- {name: shop, rooms: lobby, hash: "+hash+"}"), JWTKey: file(t, "key", tokenSecret)})
	lobby := Claims{Name: "alice", Rooms: []string{"lobby"}}
	mint := func(c topics.Credentials) error {
		c.Remote = elsewhere
		_, _, err := a.MintToken(context.Background(), c, lobby)
		return err
	}
	if err := mint(topics.Credentials{Username: "shop", Password: key}); err != nil {
		t.Errorf("by HTTP Basic: %v", err)
	}
	refused(t, topics.Identity{}, mint(topics.Credentials{}), topics.Unauthorized, "missing")
	for range 10 {
		refused(t, topics.Identity{}, mint(topics.Credentials{Token: hash}), topics.Unauthorized, "the API key is wrong")
	}
	refused(t, topics.Identity{}, mint(topics.Credentials{Token: key}), topics.RateLimited, "")
}

func TestBrokenAPIKeyFilesAreRefused(t *testing.T) {
	_, hash := NewAPIKey()
	for content, says := range map[string]string{
		"":                                     "it is empty",
		"shop: 1":                              "takes a list",
		"- {name: shop, rooms: lobby}":         "key shop has no hash",
		"- {rooms: lobby, hash: " + hash + "}": "has no name",
		"- {name: shop, hash: " + hash + "}":   "may do nothing",
		"- {name: shop, rooms: r, hash: x" + planted + "}":                                                                 "hash is not sha256:",
		"- {name: shop, rooms: r, hash: 'sha256:00'}":                                                                      "hash is not sha256:",
		"- {name: shop, rooms: r, hash: " + strings.TrimPrefix(hash, "sha256:") + "}":                                      "hash is not sha256:",
		"- {name: shop, rooms: r, key: " + planted + "}":                                                                   `"key"`,
		"- {name: shop, rooms: r, ttl: 10, hash: " + hash + "}":                                                            "ttl is not a duration",
		"- {name: shop, rooms: r, names: [], hash: " + hash + "}":                                                          "names is an empty list",
		"- {name: shop, rooms: r, names: '+', hash: " + hash + "}":                                                         "not a name",
		"- {name: a, rooms: r, hash: " + hash + "}\n- {name: b, rooms: r, hash: " + hash + "}":                             ":2: key b has the hash of key a",
		"- {name: a, rooms: r, hash: " + hash + "}\n- {name: a, rooms: r, hash: 'sha256:" + strings.Repeat("0", 64) + "'}": ":2: key a is there twice, also in line 1",
	} {
		_, err := New(Config{APIKeys: file(t, "keys.yaml", content), JWTKey: file(t, "key", tokenSecret)})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "keys.yaml") {
			t.Errorf("%s\ngot %v, want %q", content, err, says)
			continue
		}
		noSecrets(t, err.Error())
	}
}
