package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

const tokenSecret = "0123456789abcdef " + planted + " 0123456789abcdef"

// keyring holds a key of each kind, and a stranger's.
type keyring struct {
	rsa, weak *rsa.PrivateKey
	ec, ec384 *ecdsa.PrivateKey
	stranger  *ecdsa.PrivateKey
	ed        ed25519.PrivateKey
	rsaPEM    string
	keySet    string
}

var ring = sync.OnceValue(func() *keyring {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	r := new(keyring)
	var err error
	r.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	r.weak, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	r.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	r.ec384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	r.stranger, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	_, r.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	r.rsaPEM = publicPEM(r.rsa)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: r.rsa.Public(), KeyID: "r1", Use: "sig"},
		{Key: r.ec.Public(), KeyID: "e1", Algorithm: "ES256"},
		{Key: r.ed.Public(), KeyID: "d1"},
		{Key: r.ec384.Public(), KeyID: "for-encryption", Use: "enc"},
		{Key: r.stranger.Public(), KeyID: "for-another", Algorithm: "ECDH-ES"},
		{Key: []byte(tokenSecret), KeyID: "secret"},
		{Key: r.weak.Public(), KeyID: "weak"},
	}})
	must(err)
	r.keySet = string(set)
	return r
})

func publicPEM(k crypto.Signer) string {
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func privatePEM(k crypto.Signer) string {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// forge makes a token of any header and claims, signed with key as alg says,
// whatever the header says. Without a key its signature is empty.
func forge(header, claims, alg string, key any) string {
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	if key == nil {
		return text + "."
	}
	sig, err := jwt.GetSigningMethod(alg).Sign(text, key)
	if err != nil {
		panic(err)
	}
	return text + "." + b64(sig)
}

func hs256(claims string) string {
	return forge(`{"alg":"HS256","typ":"JWT"}`, claims, "HS256", []byte(tokenSecret))
}

// claiming is a good set of claims with some of them replaced; "" takes one out.
func claiming(now time.Time, changes ...string) string {
	c := map[string]string{"sub": `"alice"`, "room": `"garage"`, "exp": fmt.Sprint(now.Add(10 * time.Minute).Unix())}
	for i := 0; i < len(changes); i += 2 {
		c[changes[i]] = changes[i+1]
	}
	var parts []string
	for name, value := range c {
		if value != "" {
			parts = append(parts, fmt.Sprintf("%q:%s", name, value))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// Row 8 of package threat. To add a token, add a row: which keys are configured, the
// token, and what the refusal must say ("" for one that is taken).
func TestTokensAreTakenOrRefused(t *testing.T) {
	threat.Row(t, 8, 0)
	r := ring()
	secret := []byte(tokenSecret)
	now := newClock().Now()
	at := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	good := claiming(now)
	es := func(header string) string { return forge(header, good, "ES256", r.ec) }
	configs := map[string]Config{
		"secret": {JWTKey: file(t, "secret", tokenSecret+"\n")},
		"rsa":    {JWTKey: file(t, "rsa.pem", r.rsaPEM)},
		"ec":     {JWTKey: file(t, "ec.pem", publicPEM(r.ec))},
		"ed":     {JWTKey: file(t, "ed.pem", publicPEM(r.ed))},
		"set":    {JWKS: file(t, "set.json", r.keySet)},
		"named":  {JWTKey: file(t, "named", tokenSecret), JWTIssuer: "shop", JWTAudience: "beckon"},
	}
	tests := []struct {
		name, config, token, refusal string
	}{
		// What is taken.
		{"HS256", "secret", hs256(good), ""},
		{"RS256", "rsa", forge(`{"alg":"RS256"}`, good, "RS256", r.rsa), ""},
		{"ES256", "ec", es(`{"alg":"ES256"}`), ""},
		{"EdDSA", "ed", forge(`{"alg":"EdDSA"}`, good, "EdDSA", r.ed), ""},
		{"key of a set by its id", "set", es(`{"alg":"ES256","kid":"e1"}`), ""},
		{"key of a set without an id", "set", forge(`{"alg":"EdDSA"}`, good, "EdDSA", r.ed), ""},
		{"an id that the only key has not", "secret", forge(`{"alg":"HS256","kid":"x"}`, good, "HS256", secret), ""},
		{"nbf within the clocks' difference", "secret", hs256(claiming(now, "nbf", at(20*time.Second))), ""},
		{"issuer and audience in a list", "named", hs256(claiming(now, "iss", `"shop"`, "aud", `["other","beckon"]`)), ""},
		{"claims of others", "secret", hs256(claiming(now, "email", `"a@b"`, "roles", `[{"x":1}]`)), ""},

		// Algorithms and keys.
		{"alg none", "secret", forge(`{"alg":"none"}`, good, "", nil), "no key that is trusted here signed it"},
		{"alg None", "secret", forge(`{"alg":"None"}`, good, "", nil), "its algorithm is not one of"},
		{"alg none, signed", "secret", forge(`{"alg":"none"}`, good, "HS256", secret), "no key that is trusted"},
		{"no alg", "secret", forge(`{"typ":"JWT"}`, good, "HS256", secret), "its algorithm is not one of"},
		{"alg a list", "secret", forge(`{"alg":["HS256"]}`, good, "HS256", secret), "its algorithm is not one of"},
		{"alg in lower case", "secret", forge(`{"alg":"hs256"}`, good, "HS256", secret), "its algorithm is not one of"},
		{"HS256 with the public key", "rsa", forge(`{"alg":"HS256"}`, good, "HS256", []byte(r.rsaPEM)), "none is configured"},
		{"HS512 with the secret", "secret", forge(`{"alg":"HS512"}`, good, "HS512", secret), "no key that is trusted"},
		{"PS256 with a key for RS256", "rsa", forge(`{"alg":"PS256"}`, good, "PS256", r.rsa), "no key that is trusted"},
		{"ES384 of a key on P-256", "ec", forge(`{"alg":"ES384"}`, good, "ES384", r.ec384), "no key that is trusted"},
		{"a stranger's key", "ec", forge(`{"alg":"ES256"}`, good, "ES256", r.stranger), "no key that is trusted"},
		{"an empty signature", "secret", forge(`{"alg":"HS256"}`, good, "", nil), "no key that is trusted"},
		{"ES256 of zeros", "ec", forge(`{"alg":"ES256"}`, good, "", nil) + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), "no key that is trusted"},
		{"the claims of another", "secret", swap(hs256(good), hs256(claiming(now, "sub", `"bob"`))), "no key that is trusted"},
		{"a key id with a path", "set", es(`{"alg":"ES256","kid":"../../dev/null"}`), "algorithm and key id"},
		{"a key id that is a number", "ec", es(`{"alg":"ES256","kid":1}`), "kid that is not a text"},
		{"a key for encryption", "set", forge(`{"alg":"ES384","kid":"for-encryption"}`, good, "ES384", r.ec384), "algorithm and key id"},
		{"a key for another algorithm", "set", forge(`{"alg":"ES256","kid":"for-another"}`, good, "ES256", r.stranger), "algorithm and key id"},
		{"a secret that is published", "set", forge(`{"alg":"HS256","kid":"secret"}`, good, "HS256", secret), "none is configured"},
		{"a short RSA key", "set", forge(`{"alg":"RS256","kid":"weak"}`, good, "RS256", r.weak), "algorithm and key id"},
		{"an embedded key", "ec", forge(`{"alg":"ES256","jwk":`+jwkOf(r.stranger)+`}`, good, "ES256", r.stranger), `"jwk"`},
		{"an address of keys", "ec", es(`{"alg":"ES256","jku":"https://evil.example/keys"}`), `"jku"`},
		{"an address of certificates", "ec", es(`{"alg":"ES256","x5u":"https://evil.example/cert"}`), `"x5u"`},
		{"an embedded certificate", "ec", es(`{"alg":"ES256","x5c":["MIIB"]}`), `"x5c"`},
		{"a critical extension", "ec", es(`{"alg":"ES256","crit":["b64"],"b64":false}`), "not taken here"},
		{"alg given twice", "ec", es(`{"alg":"HS256","alg":"ES256"}`), "twice"},
		{"made for something else", "ec", es(`{"alg":"ES256","typ":"logout+jwt"}`), "(typ)"},

		// Times.
		{"no exp", "secret", hs256(claiming(now, "exp", "")), "lacks exp"},
		{"exp a text", "secret", hs256(claiming(now, "exp", `"`+at(time.Hour)+`"`)), "exp is not a number"},
		{"exp null", "secret", hs256(claiming(now, "exp", "null")), "exp is not a number"},
		{"exp a list", "secret", hs256(claiming(now, "exp", "["+at(time.Hour)+"]")), "exp is not a number"},
		{"exp true", "secret", hs256(claiming(now, "exp", "true")), "exp is not a number"},
		{"exp 1e300", "secret", hs256(claiming(now, "exp", "1e300")), "exp is not a number"},
		{"exp zero", "secret", hs256(claiming(now, "exp", "0")), "expired"},
		{"exp negative", "secret", hs256(claiming(now, "exp", "-1")), "expired"},
		{"exp now", "secret", hs256(claiming(now, "exp", at(0))), "expired"},
		{"exp in 200 years", "secret", hs256(claiming(now, "exp", "8000000000")), "more than 100 years"},
		{"exp in milliseconds", "secret", hs256(claiming(now, "exp", at(time.Hour)+"000")), "more than 100 years"},
		{"exp given twice", "secret", hs256(`{"sub":"alice","room":"garage","exp":1,"exp":` + at(time.Hour) + `}`), "twice"},
		{"Exp", "secret", hs256(claiming(now, "exp", "", "Exp", at(time.Hour))), "lacks exp"},
		{"nbf in a minute", "secret", hs256(claiming(now, "nbf", at(time.Minute))), "not valid yet"},
		{"nbf a text", "secret", hs256(claiming(now, "nbf", `"soon"`)), "nbf is not a number"},

		// Who and where.
		{"no sub", "secret", hs256(claiming(now, "sub", "")), "no sub"},
		{"sub a wildcard", "secret", hs256(claiming(now, "sub", `"+"`)), "not a name"},
		{"sub of the server", "secret", hs256(claiming(now, "sub", `"_"`)), "not a name"},
		{"sub a number", "secret", hs256(claiming(now, "sub", "7")), "sub is not a text"},
		{"sub with NUL", "secret", hs256(claiming(now, "sub", `"alice\u0000"`)), "not a name"},
		{"no room", "secret", hs256(claiming(now, "room", "")), "no room"},
		{"room an empty list", "secret", hs256(claiming(now, "room", "[]")), "a list of 0"},
		{"room with a star inside", "secret", hs256(claiming(now, "room", `"ga*ge"`)), "not a name"},
		{"room with a slash", "secret", hs256(claiming(now, "room", `["garage","a/b"]`)), "not a name"},
		{"an unknown role", "secret", hs256(claiming(now, "role", `"root"`)), "role"},
		{"a viewer of nobody", "secret", hs256(claiming(now, "role", `"viewer"`)), "viewer of nobody"},
		{"a peer who is no viewer", "secret", hs256(claiming(now, "peer", `"cam1"`)), "only a viewer has"},
		{"device a text", "secret", hs256(claiming(now, "device", `"true"`)), "device"},
		{"another issuer", "named", hs256(claiming(now, "iss", `"Shop"`, "aud", `"beckon"`)), "issuer"},
		{"no issuer", "named", hs256(claiming(now, "aud", `"beckon"`)), "iss"},
		{"another audience", "named", hs256(claiming(now, "iss", `"shop"`, "aud", `"beckon2"`)), "audience"},
		{"no audience", "named", hs256(claiming(now, "iss", `"shop"`)), "aud"},

		// Shapes.
		{"9 KiB", "secret", hs256(claiming(now, "x", `"`+strings.Repeat("a", 9<<10)+`"`)), "bytes, it may have"},
		{"claims deeper than 16", "secret", hs256(claiming(now, "x", strings.Repeat("[", 20)+strings.Repeat("]", 20))), "deeper"},
		{"claims a list", "secret", hs256("[]"), "a list"},
		{"claims null", "secret", hs256("null"), "refused"},
		{"two parts", "secret", "eyJhbGciOiJIUzI1NiJ9.e30", "not a JSON Web Token"},
		{"four parts", "secret", hs256(good) + ".x", "not a JSON Web Token"},
		{"base64 with padding", "secret", strings.Replace(hs256(good), ".", "=.", 1), "not a JSON Web Token"},
		{"trailing bits in the signature", "secret", loosen(hs256(good)), "not a JSON Web Token"},
		{"a line end in the middle", "secret", strings.Replace(hs256(good), ".", ".\n", 1), "refused"},
		{"not a token", "secret", planted, "not a JSON Web Token"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := configs[test.config]
			c.Now, c.Logins = newClock().Now, -1
			a := newAuth(t, c)
			bearer := topics.Credentials{Token: test.token, Remote: elsewhere}
			if test.refusal != "" {
				a.refuses(bearer, topics.Unauthorized, test.refusal)
				return
			}
			id := a.lets(bearer)
			if id.Name != "alice" || len(id.Grants) != 1 || id.Grants[0] != (topics.Grant{Room: "garage", Role: topics.Peer}) || id.Source != byToken || !id.Expires.Equal(now.Add(10*time.Minute)) {
				t.Errorf("it is %+v", id)
			}
			if _, err := a.Recheck(id); err != nil {
				t.Errorf("Recheck: %v", err)
			}
		})
	}
	if len(tests) < 45 {
		t.Errorf("%d tokens, there should be 45 at least", len(tests))
	}
}

// swap puts the claims of b into a.
func swap(a, b string) string {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	return x[0] + "." + y[1] + "." + x[2]
}

// loosen sets a bit in the last character that means nothing.
func loosen(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

func jwkOf(k crypto.Signer) string {
	text, err := json.Marshal(jose.JSONWebKey{Key: k.Public()})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestTokenSaysRoleAndRooms(t *testing.T) {
	now := newClock()
	a := newAuth(t, Config{JWTKey: file(t, "key", tokenSecret), Now: now.Now})
	id := a.lets(topics.Credentials{Token: hs256(claiming(now.Now(), "room", `["garage","yard-*"]`, "role", `"viewer"`, "peer", `"cam1"`, "device", "true"))})
	want := []topics.Grant{{Room: "garage", Role: topics.Viewer, Of: "cam1"}, {Room: "yard-*", Role: topics.Viewer, Of: "cam1"}}
	if len(id.Grants) != 2 || id.Grants[0] != want[0] || id.Grants[1] != want[1] || !id.Device {
		t.Errorf("got %+v, want %+v", id, want)
	}
}

func TestTokenMayBeTheMQTTPassword(t *testing.T) {
	now := newClock()
	users := file(t, "users.yaml", "- name: dave\n  rooms: garage\n  password: "+cheap("correct.horse.battery"+planted)+"\n")
	a := newAuth(t, Config{JWTKey: file(t, "key", tokenSecret), Users: users, Now: now.Now})
	token := hs256(claiming(now.Now()))
	if id := a.lets(byName("alice", token)); id.Source != byToken {
		t.Errorf("it is %+v", id)
	}
	a.lets(topics.Credentials{Password: token})
	a.refuses(byName("dave", token), topics.Unauthorized, "the token is of alice")
	if id := a.lets(byName("dave", "correct.horse.battery"+planted)); id.Source != byPassword {
		t.Errorf("three words with dots were not taken for a password: %+v", id)
	}
}

func TestTokenEndsAndIsRefreshed(t *testing.T) {
	now := newClock()
	a := newAuth(t, Config{JWTKey: file(t, "key", tokenSecret), Now: now.Now})
	id := a.lets(topics.Credentials{Token: hs256(claiming(now.Now()))})
	now.pass(10*time.Minute - time.Second)
	if _, err := a.Recheck(id); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	newer, err := a.Refresh(context.Background(), id, topics.Credentials{Token: hs256(claiming(now.Now()))})
	if err != nil || !newer.Expires.After(id.Expires) {
		t.Errorf("refreshed to %+v, %v", newer, err)
	}
	none, err := a.Refresh(context.Background(), id, topics.Credentials{Token: hs256(claiming(now.Now(), "sub", `"bob"`))})
	refused(t, none, err, topics.Forbidden, "this connection is alice")
	now.pass(time.Second)
	none, err = a.Recheck(id)
	refused(t, none, err, topics.Unauthorized, "expired")
}

func TestTokenDiesWithItsKey(t *testing.T) {
	path := file(t, "key", tokenSecret)
	a := newAuth(t, Config{JWTKey: path})
	token, _, err := a.SignToken(Claims{Name: "alice", Rooms: []string{"garage"}})
	if err != nil {
		t.Fatal(err)
	}
	id := a.lets(topics.Credentials{Token: token})
	put(t, path, "another "+tokenSecret)
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	none, err := a.Recheck(id)
	refused(t, none, err, topics.Unauthorized, "not trusted here any more")
	a.refuses(topics.Credentials{Token: token}, topics.Unauthorized, "no key that is trusted")
}

func TestSignedTokensAreTakenByEachKindOfKey(t *testing.T) {
	r := ring()
	want := Claims{Name: "wall", Rooms: []string{"garage", "yard-*"}, Role: topics.Viewer, Peer: "cam1", Device: true, TTL: time.Hour}
	for name, text := range map[string]string{"HS256": tokenSecret, "RS256": privatePEM(r.rsa), "ES256": privatePEM(r.ec), "ES384": privatePEM(r.ec384), "EdDSA": privatePEM(r.ed)} {
		t.Run(name, func(t *testing.T) {
			a := newAuth(t, Config{JWTKey: file(t, "key", text), JWTIssuer: "me", JWTAudience: "beckon"})
			token, expires, err := a.SignToken(want)
			if err != nil {
				t.Fatal(err)
			}
			id := a.lets(topics.Credentials{Token: token})
			if id.Name != "wall" || !id.Device || !id.Expires.Equal(expires) || len(id.Grants) != 2 || id.Grants[0] != (topics.Grant{Room: "garage", Role: topics.Viewer, Of: "cam1"}) {
				t.Errorf("it is %+v", id)
			}
		})
	}
	public := newAuth(t, Config{JWTKey: file(t, "key", r.rsaPEM)})
	if _, _, err := public.SignToken(want); err == nil {
		t.Error("a public key signed")
	}
	secret := newAuth(t, Config{JWTKey: file(t, "key", tokenSecret)})
	for _, wrong := range []Claims{
		{}, {Name: "a b", Rooms: []string{"r"}}, {Name: "a"}, {Name: "a", Rooms: []string{"r", ""}}, {Name: "a", Rooms: []string{"r"}, Role: topics.Viewer},
		{Name: "a", Rooms: []string{"r"}, Peer: "cam1"}, {Name: "a", Rooms: []string{"r"}, TTL: -1}, {Name: "a", Rooms: []string{"r"}, Role: 9},
	} {
		if token, _, err := secret.SignToken(wrong); err == nil {
			t.Errorf("%+v made %s", wrong, token)
		}
	}
}

// A machine without a battery for its clock starts in 1970.
func TestTokensAreTakenWhileTheClockIsDecadesBehind(t *testing.T) {
	then := time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)
	key := file(t, "jwt.key", tokenSecret)
	behind := newAuth(t, Config{JWTKey: key, Now: func() time.Time { return then }})
	text, _, err := newAuth(t, Config{JWTKey: key}).SignToken(Claims{Name: "alice", Rooms: []string{"garage"}, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if id := behind.lets(topics.Credentials{Password: text}); id.Name != "alice" {
		t.Errorf("it is of %s", id.Name)
	}
}
