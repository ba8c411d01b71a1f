package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"go.yaml.in/yaml/v3"
)

// apiKeys is the file of --api-key: who may have tokens made, and which.
//
//   - name: shop                  # for logs
//     hash: sha256:9f86d0...      # of the key, as [NewAPIKey] makes it
//     rooms: [shop-*]             # with role, peer and grants, as in the users file
//     names: [guest-*]            # whom the tokens may name; any but accounts
//     device: true                # tokens may be of devices
//     ttl: 1h                     # the longest life of a token; 1 h
type apiKeys map[[sha256.Size]byte]*apiKey

type apiKey struct {
	name   string
	grants []topics.Grant
	names  []string // each may end with "*"; nil: any that is no account
	device bool
	ttl    time.Duration
	line   int
}

// NewAPIKey makes a key and its hash. The key is random, so a plain SHA-256 of
// it can stand in a file.
func NewAPIKey() (key, hash string) {
	key = "beckon_" + rand.Text()
	sum := sha256.Sum256([]byte(key))
	return key, hashPrefix + hex.EncodeToString(sum[:])
}

const hashPrefix = "sha256:"

// AddAPIKey makes a key for the file at path, of that name and with those grants,
// and returns it: the file has its hash only. Its tokens live for ttl at most; 0
// leaves that out. A name that is there already is refused. For the rest it goes
// as with [SetUser].
func AddAPIKey(path, name string, grants []topics.Grant, ttl time.Duration) (key string, err error) {
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	key, hash := NewAPIKey()
	parse := func(data []byte) error {
		_, err := parseAPIKeys(path, data)
		return err
	}
	err = editList(path, parse, func(list *yaml.Node) error {
		if other := named(list, name); other != nil {
			return fmt.Errorf("key %s is there already, in line %d; take another name, or take that one out", name, other.Line)
		}
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		setField(n, "name", name)
		setField(n, "hash", hash)
		if len(grants) > 0 {
			(&Account{Grants: grants}).writeGrants(n)
		}
		if ttl != 0 {
			setField(n, "ttl", short(ttl))
		}
		list.Content = append(list.Content, n)
		return nil
	})
	if err != nil {
		return "", err
	}
	return key, nil
}

// short is d without units that are zero at the end: 1h, not 1h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func parseAPIKeys(file string, data []byte) (apiKeys, error) {
	d := &document{name: file}
	keys := make(apiKeys)
	if list := d.yaml(data); list != nil {
		names := make(map[string]int)
		for i, n := range d.list(list, "the file of API keys") {
			keys.read(d, n, i, names)
		}
	}
	return keys, d.err()
}

func (keys apiKeys) read(d *document, n *yaml.Node, i int, lines map[string]int) {
	what := fmt.Sprintf("key %d", i+1)
	if name := valueOf(n, "name"); name != nil && topics.ValidName(name.Value) {
		what = "key " + name.Value
	}
	k := &apiKey{ttl: time.Hour, line: n.Line}
	var sum [sha256.Size]byte
	var hashed bool
	var g grantReader
	known := g.fields(d, what)
	known["name"] = func(n *yaml.Node) {
		if name, ok := d.text(n, what+": name"); ok {
			if err := checkName(name); err != nil {
				d.mistake(n, "%s: %w", what, err)
			}
			k.name = name
		}
	}
	known["hash"] = func(n *yaml.Node) {
		hashed = true
		text, _ := strings.CutPrefix(n.Value, hashPrefix)
		raw, err := hex.DecodeString(text)
		if n.Kind != yaml.ScalarNode || err != nil || len(raw) != len(sum) || text == n.Value {
			d.mistake(n, "%s: hash is not sha256: and 64 hex digits; make a key with \"beckon api-key\", or a hash with \"printf %%s KEY | sha256sum\"", what)
			return
		}
		copy(sum[:], raw)
	}
	known["names"] = func(n *yaml.Node) {
		for _, item := range d.texts(n, what+": names") {
			if err := checkRooms(item.Value); err != nil {
				d.mistake(item, "%s: names: %s", what, strings.TrimPrefix(err.Error(), "room "))
			}
			k.names = append(k.names, item.Value)
		}
	}
	known["device"] = func(n *yaml.Node) { k.device = d.boolean(n, what+": device") }
	known["ttl"] = func(n *yaml.Node) {
		var err error
		if k.ttl, err = time.ParseDuration(n.Value); err != nil || k.ttl < time.Second || k.ttl > maxAhead {
			d.mistake(n, "%s: ttl is not a duration such as 10m, from 1s to ten years", what)
		}
	}
	before := len(d.wrong)
	if !d.mapping(n, what, known) {
		return
	}
	k.grants = g.grants(d, what)
	switch {
	case k.name == "":
		d.mistake(n, "%s has no name", what)
	case !hashed:
		d.mistake(n, "%s has no hash", what)
	case len(d.wrong) > before:
	case len(k.grants) == 0:
		d.mistake(n, "%s may do nothing; give it rooms or grants", what)
	case lines[k.name] > 0:
		d.mistake(n, "%s is there twice, also in line %d; keep one", what, lines[k.name])
	case keys[sum] != nil:
		d.mistake(n, "%s has the hash of key %s; make a key for each", what, keys[sum].name)
	default:
		keys[sum] = k
	}
	lines[k.name] = n.Line
}

// MintToken makes a token of want for a caller with an API key, which is in
// c.Token, else c.Password. It is never wider than what the key has.
func (a *Auth) MintToken(_ context.Context, c topics.Credentials, want Claims) (token string, expires time.Time, err error) {
	s := a.state.Load()
	if s.apiKeys == nil {
		return "", time.Time{}, topics.Errorf(topics.Forbidden, "no API key is configured here, so nobody can have tokens made")
	}
	secret := c.Token
	if secret == "" {
		secret = c.Password
	}
	if secret == "" {
		return "", time.Time{}, topics.Errorf(topics.Unauthorized, "the API key is missing; send it as bearer token")
	}
	login := a.throttle.attempt(c.Remote, "")
	if err := login.allowed(); err != nil {
		return "", time.Time{}, err
	}
	k := s.apiKeys[sha256.Sum256([]byte(secret))]
	if k == nil {
		login.fail()
		return "", time.Time{}, topics.Errorf(topics.Unauthorized, "the API key is wrong")
	}
	if want.Role == 0 {
		want.Role = topics.Peer
	}
	if want.TTL == 0 {
		want.TTL = min(10*time.Minute, k.ttl)
	}
	if err := want.check(); err != nil {
		return "", time.Time{}, err
	}
	if err := k.allows(want, s.users); err != nil {
		return "", time.Time{}, topics.Errorf(topics.Forbidden, "API key %s: %v", k.name, err)
	}
	if token, expires, err = a.SignToken(want); err != nil {
		return "", time.Time{}, err
	}
	a.Logger.Info("made a token", "key", k.name, "peer", want.Name, "rooms", want.Rooms, "role", want.Role.String(), "expires", expires)
	return token, expires, nil
}

func (k *apiKey) allows(want Claims, u *users) error {
	if k.names == nil && u.user(want.Name) != nil {
		return fmt.Errorf("%s is an account here; a key that may make tokens for it has it in its names", want.Name)
	}
	if k.names != nil && !anyOf(k.names, func(pattern string) bool { return within(want.Name, pattern) }) {
		return fmt.Errorf("%s is not among the names it may make tokens for", want.Name)
	}
	if want.Device && !k.device {
		return errors.New("it may not make tokens of devices")
	}
	if want.TTL > k.ttl {
		return fmt.Errorf("a token may live %v, not %v", k.ttl, want.TTL)
	}
	for _, w := range want.grants() {
		if !anyOf(k.grants, func(g topics.Grant) bool { return covers(g, w) }) {
			return fmt.Errorf("it has no grant as wide as %s in room %s", w.Role, w.Room)
		}
	}
	return nil
}

func anyOf[T any](list []T, fits func(T) bool) bool {
	for _, v := range list {
		if fits(v) {
			return true
		}
	}
	return false
}

// within reports whether all that is inside the first pattern is inside the
// second.
func within(inner, outer string) bool {
	if prefix, ok := strings.CutSuffix(outer, "*"); ok {
		return strings.HasPrefix(strings.TrimSuffix(inner, "*"), prefix)
	}
	return inner == outer
}

// covers reports whether who has g has all that w gives.
func covers(g, w topics.Grant) bool {
	if !within(w.Room, g.Room) {
		return false
	}
	switch g.Role {
	case topics.Admin:
		return true
	case topics.Peer: // publishes and reads all that a viewer does
		return w.Role == topics.Peer || w.Role == topics.Viewer
	case topics.Viewer:
		return w.Role == topics.Viewer && w.Of == g.Of
	default:
		return w.Role == g.Role
	}
}
