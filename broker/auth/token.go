package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/golang-jwt/jwt/v5"
	"go.yaml.in/yaml/v3"
)

// What a token may be.
const (
	maxToken = 8 << 10                   // bytes
	maxAhead = 10 * 366 * 24 * time.Hour // until one that is made here expires
	farAhead = 10 * maxAhead             // until any does: a machine without a battery may believe it is 1970
	early    = 30 * time.Second          // before "nbf" that it is taken, for clocks that differ; "exp" has no such leeway
	maxRooms = 256                       // in the claim "room"
)

// algorithms are all that any key takes; which one does follows from the key.
var algorithms = []string{"HS256", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Claims are what a token says: who may be what in which rooms, for how long.
type Claims struct {
	Name   string
	Rooms  []string // names, each may end with "*"
	Role   topics.Role
	Peer   string // whom a viewer may watch
	Device bool
	TTL    time.Duration // 10 min by default
}

// claims are the claims of a token that came in. It is strict where package jwt
// is not: no name twice, and each value of the right kind.
type claims struct {
	sub, iss string
	aud      jwt.ClaimStrings
	exp, nbf *jwt.NumericDate
	grants   []topics.Grant
	device   bool
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.iss, nil }
func (c *claims) GetSubject() (string, error)                  { return c.sub, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.aud, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) {
	if c.nbf == nil {
		return nil, nil
	}
	return &jwt.NumericDate{Time: c.nbf.Add(-early)}, nil
}

// UnmarshalJSON reads the claims that mean something here; there may be others.
func (c *claims) UnmarshalJSON(data []byte) error {
	d := &document{}
	n := d.json(data)
	if n == nil {
		return tokenError("%v", d.err())
	}
	if n.Kind != yaml.MappingNode {
		return tokenError("its claims are %s, not an object", kindOf(n))
	}
	var g grantReader
	var named bool
	known := fields{
		"sub": func(n *yaml.Node) {
			named = true
			c.sub = d.claimText(n, "sub")
			if err := checkName(c.sub); err != nil {
				d.mistake(nil, "sub %w", err)
			}
		},
		"iss":    func(n *yaml.Node) { c.iss = d.claimText(n, "iss") },
		"exp":    func(n *yaml.Node) { c.exp = d.claimDate(n, "exp") },
		"nbf":    func(n *yaml.Node) { c.nbf = d.claimDate(n, "nbf") },
		"iat":    func(n *yaml.Node) { d.claimDate(n, "iat") },
		"room":   func(n *yaml.Node) { g.rooms = n; d.claimTexts(n, "room") },
		"role":   func(n *yaml.Node) { g.role = n; d.claimText(n, "role") },
		"peer":   func(n *yaml.Node) { g.peer = n; d.claimText(n, "peer") },
		"device": func(n *yaml.Node) { c.device = d.boolean(n, "device") },
		"aud":    func(n *yaml.Node) { c.aud = d.claimTexts(n, "aud") },
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if seen[name] {
			d.mistake(nil, "it has a claim twice: %s", shown(n.Content[i]))
		}
		seen[name] = true
		if read, ok := known[name]; ok {
			read(n.Content[i+1])
		}
	}
	switch {
	case !named:
		d.mistake(nil, "it has no sub: whose is it?")
	case g.rooms == nil:
		d.mistake(nil, "it has no room")
	case len(d.wrong) == 0:
		c.grants = g.grants(d, "it")
	}
	if err := d.err(); err != nil {
		return tokenError("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// claimText reads a claim that must be a JSON string.
func (d *document) claimText(n *yaml.Node, what string) string {
	if n.Tag != "!!str" || n.Value == "" {
		d.mistake(nil, "%s is not a text", what)
		return ""
	}
	return n.Value
}

func (d *document) claimTexts(n *yaml.Node, what string) []string {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) == 0 || len(items) > maxRooms {
		d.mistake(nil, "%s is a list of %d, it takes 1 to %d", what, len(items), maxRooms)
		return nil
	}
	var texts []string
	for _, item := range items {
		texts = append(texts, d.claimText(item, what))
	}
	return texts
}

// claimDate reads a NumericDate (RFC 7519, 2): a number, and no text with one.
func (d *document) claimDate(n *yaml.Node, what string) *jwt.NumericDate {
	seconds, err := strconv.ParseFloat(n.Value, 64)
	if n.Tag != "!!float" || err != nil || math.Abs(seconds) > 1<<53 {
		d.mistake(nil, "%s is not a number of seconds since 1970", what)
		return nil
	}
	whole, part := math.Modf(seconds)
	return &jwt.NumericDate{Time: time.Unix(int64(whole), int64(part*1e9))}
}

// tokenError is a 401 with words about a token. They never hold the token.
func tokenError(format string, args ...any) *topics.Error {
	return topics.Errorf(topics.Unauthorized, "the token is refused: "+format, args...)
}

// looksLikeToken reports whether a password is a token: three parts, the first
// of which is a JSON object in base64url. Three words with dots are a password.
func looksLikeToken(s string) bool {
	head, rest, ok := strings.Cut(s, ".")
	if !ok || strings.Count(rest, ".") != 1 {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(head)
	return err == nil && len(text) > 1 && text[0] == '{'
}

// proven is what a good token says.
type proven struct {
	claims
	stamp string // of the key
}

func (p *proven) identity() topics.Identity {
	return topics.Identity{Name: p.sub, Grants: p.grants, Device: p.device, Expires: p.exp.Time, Source: byToken, Stamp: p.stamp}
}

// verifyToken checks a token. What is not signed as it should be counts as a failed
// login (guess), what is merely out of date does not.
func (a *Auth) verifyToken(ctx context.Context, text string) (p *proven, guess bool, err error) {
	var before *[]key
	if a.jwks != nil {
		before = a.jwks.last.Load()
	}
	p, err = a.parseToken(text, a.keys())
	if a.jwks == nil || !errors.Is(err, errNoKey) {
		return p, isGuess(err), plain(err)
	}
	// RFC 7517, 4.5: a key that is not known may be a new one.
	if unavailable := a.jwks.refresh(ctx, a.Now(), before); unavailable != nil {
		return nil, false, unavailable
	}
	p, err = a.parseToken(text, a.keys())
	return p, isGuess(err), plain(err)
}

// isGuess reports whether err is of a token that nobody who is trusted signed.
func isGuess(err error) bool {
	return err != nil && !errors.Is(err, jwt.ErrTokenInvalidClaims)
}

func plain(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*topics.Error](err); ok {
		return e
	}
	for _, w := range []struct {
		is    error
		words string
	}{
		{jwt.ErrTokenExpired, "it has expired; get a new one"},
		{jwt.ErrTokenNotValidYet, "it is not valid yet (nbf); do the clocks agree?"},
		{jwt.ErrTokenInvalidIssuer, "its issuer (iss) is not the one that is trusted here"},
		{jwt.ErrTokenInvalidAudience, "its audience (aud) is not this server"},
		{jwt.ErrTokenRequiredClaimMissing, "it lacks exp, or an iss or aud that is asked for here"},
		{jwt.ErrTokenSignatureInvalid, "no key that is trusted here signed it with its algorithm"},
		{jwt.ErrTokenUnverifiable, "its algorithm is not one of " + strings.Join(algorithms, ", ")},
	} {
		if errors.Is(err, w.is) {
			return tokenError("%s", w.words)
		}
	}
	return tokenError("it is not a JSON Web Token")
}

// errNoKey says that no key fits the header of a token.
var errNoKey = errors.New("no such key")

func (a *Auth) parseToken(text string, keys []key) (*proven, error) {
	p := new(proven)
	options := []jwt.ParserOption{
		jwt.WithValidMethods(algorithms), jwt.WithStrictDecoding(), jwt.WithTimeFunc(a.Now), jwt.WithExpirationRequired(),
	}
	if a.JWTIssuer != "" {
		options = append(options, jwt.WithIssuer(a.JWTIssuer))
	}
	if a.JWTAudience != "" {
		options = append(options, jwt.WithAudience(a.JWTAudience))
	}
	_, err := jwt.NewParser(options...).ParseWithClaims(text, &p.claims, func(t *jwt.Token) (any, error) {
		k, err := keyOf(t, keys)
		p.stamp = k.stamp
		return k.verify, err
	})
	if err != nil {
		return nil, err
	}
	if p.exp.After(a.Now().Add(farAhead)) {
		return nil, errors.Join(jwt.ErrTokenInvalidClaims, tokenError("it expires (exp) in more than 100 years, it may in less"))
	}
	return p, nil
}

// keyOf picks the key for a token, which says by "kid" and "alg" which it is
// and otherwise has no say in it.
func keyOf(t *jwt.Token, keys []key) (key, error) {
	alg := t.Method.Alg()
	head, err := header(t.Raw)
	if err != nil {
		return key{}, err
	}
	fit := candidates(keys, alg, head.kid)
	if len(fit) == 0 && strings.HasPrefix(alg, "HS") { // nor would another set of public keys have it
		return key{}, tokenError("it is signed with a secret (%s), and none is configured", alg)
	}
	if len(fit) == 0 {
		return key{}, fmt.Errorf("%w: %w", errNoKey, tokenError("no key that is trusted here has its algorithm and key id"))
	}
	if len(fit) > 1 {
		signed := t.Raw[:strings.LastIndexByte(t.Raw, '.')]
		for _, k := range fit {
			if t.Method.Verify(signed, t.Signature, k.verify) == nil {
				return k, nil
			}
		}
	}
	return fit[0], nil
}

type tokenHeader struct{ kid string }

// header reads the header of a token once more, strictly. Where it brings or
// names a key, or asks for what is not known here (RFC 7515, 4.1), the token is
// refused.
func header(token string) (tokenHeader, error) {
	var h tokenHeader
	part, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return h, tokenError("its header is not base64url")
	}
	d := &document{}
	n := d.json(text)
	if n == nil || n.Kind != yaml.MappingNode {
		return h, tokenError("its header is not a JSON object")
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		if seen[name] {
			return h, tokenError("its header has a member twice: %s", shown(n.Content[i]))
		}
		seen[name] = true
		switch name {
		case "jku", "jwk", "x5u", "x5c", "crit", "cty", "zip", "b64":
			return h, tokenError("its header has %q, which is not taken here", name)
		case "kid":
			if value.Tag != "!!str" {
				return h, tokenError("its header has a kid that is not a text")
			}
			h.kid = value.Value
		case "typ": // RFC 8725, 3.11: not a token that was made for something else
			if !slices.Contains([]string{"jwt", "at+jwt"}, strings.TrimPrefix(strings.ToLower(value.Value), "application/")) {
				return h, tokenError("its header says that it is no JWT (typ)")
			}
		}
	}
	return h, nil
}

// SignToken makes a token of want with the key of --jwt-key. It is for who has
// that key; [Auth.MintToken] is for others.
func (a *Auth) SignToken(want Claims) (token string, expires time.Time, err error) {
	k := a.state.Load().key
	if k == nil || k.sign == nil {
		return "", time.Time{}, errors.New("tokens are made with --jwt-key FILE, which takes a secret or a private key for it")
	}
	if want.Role == 0 {
		want.Role = topics.Peer
	}
	if want.TTL == 0 {
		want.TTL = 10 * time.Minute
	}
	if err := want.check(); err != nil {
		return "", time.Time{}, err
	}
	now := a.Now()
	expires = now.Add(want.TTL).Truncate(time.Second)
	c := jwt.MapClaims{"sub": want.Name, "room": want.Rooms, "role": want.Role.String(), "iat": now.Unix(), "exp": expires.Unix()}
	for name, text := range map[string]string{"peer": want.Peer, "iss": a.JWTIssuer, "aud": a.JWTAudience} {
		if text != "" {
			c[name] = text
		}
	}
	if want.Device {
		c["device"] = true
	}
	token, err = jwt.NewWithClaims(k.method(), c).SignedString(k.sign)
	if err == nil && len(token) > maxToken {
		err = topics.Errorf(topics.BadRequest, "the token would have %d bytes, it may have %d; name fewer rooms", len(token), maxToken)
	}
	return token, expires, err
}

// check says all that is wrong with c.
func (c Claims) check() error {
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if err := checkName(c.Name); err != nil {
		add("name %v", err)
	}
	if len(c.Rooms) == 0 || len(c.Rooms) > maxRooms {
		add("there are %d rooms, it takes 1 to %d", len(c.Rooms), maxRooms)
	}
	for _, room := range c.Rooms {
		if err := checkRooms(room); err != nil {
			add("%v", err)
		}
	}
	if c.Role < topics.Peer || c.Role > topics.Admin {
		add("the role is none; it takes peer, viewer, observer or admin")
	}
	switch {
	case c.Role == topics.Viewer && !topics.ValidName(c.Peer):
		add("a viewer needs the peer whom it may watch")
	case c.Role != topics.Viewer && c.Peer != "":
		add("a peer is for the role viewer only")
	}
	if c.TTL < time.Second || c.TTL > maxAhead {
		add("it would expire in %v, it takes a second to 10 years", c.TTL)
	}
	if len(wrong) > 0 {
		return topics.Errorf(topics.BadRequest, "no such token: %s", strings.Join(wrong, "; "))
	}
	return nil
}

func (c Claims) grants() []topics.Grant {
	var grants []topics.Grant
	for _, room := range c.Rooms {
		grants = append(grants, topics.Grant{Room: room, Role: c.Role, Of: c.Peer})
	}
	return grants
}
