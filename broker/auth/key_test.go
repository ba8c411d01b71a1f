package auth

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/go-jose/go-jose/v4"
)

func TestSecretIsTakenWithoutItsLineEnd(t *testing.T) {
	raw := strings.Repeat("\x01\x02", 20)
	for content, want := range map[string]string{
		tokenSecret:          tokenSecret,
		tokenSecret + "\n":   tokenSecret,
		tokenSecret + "\r\n": tokenSecret,
		raw + "\n":           raw + "\n", // arbitrary bytes: the last is one of them
	} {
		k, err := parseKey([]byte(content))
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		if got := string(k.verify.([]byte)); got != want {
			t.Errorf("%q is %q", content, got)
		}
	}
}

func TestKeysOfOpenSSLAreRead(t *testing.T) {
	r := ring()
	ec, err := x509.MarshalECPrivateKey(r.ec)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for name, text := range map[string]string{
		"RS256 public":  block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&r.rsa.PublicKey)),
		"RS256 private": block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r.rsa)),
		"ES256 private": block("EC PARAMETERS", []byte{6, 8, 42}) + block("EC PRIVATE KEY", ec),
		"ES384 public":  publicPEM(r.ec384),
		"EdDSA private": "a comment\n" + privatePEM(r.ed),
	} {
		alg, half, _ := strings.Cut(name, " ")
		k, err := parseKey([]byte(text))
		if err != nil || len(k.algs) != 1 || k.algs[0] != alg || (k.sign != nil) != (half == "private") {
			t.Errorf("%s: %v, signs: %v, %v", name, k.algs, k.sign != nil, err)
		}
	}
}

func TestTokenWithoutKeyIDIsTriedWithEachKeyOfItsAlgorithm(t *testing.T) {
	r := ring()
	set := func(keys ...jose.JSONWebKey) string {
		text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, sign := keySet(t, "e3")
	two := file(t, "set", set(jose.JSONWebKey{Key: r.ec.Public(), KeyID: "e1"}, jose.JSONWebKey{Key: r.stranger.Public(), KeyID: "e2"}))
	a := newAuth(t, Config{JWKS: two})
	claims := claiming(time.Now())
	for _, key := range []any{r.ec, r.stranger} {
		id := a.lets(topics.Credentials{Token: forge(`{"alg":"ES256"}`, claims, "ES256", key)})
		if _, err := a.Recheck(id); err != nil {
			t.Error(err)
		}
	}
	token := strings.Split(sign(claims).Token, ".")
	other := forge(`{"alg":"ES256"}`, claims, "ES256", r.ec)
	a.refuses(topics.Credentials{Token: other[:strings.LastIndexByte(other, '.')+1] + token[2]}, topics.Unauthorized, "no key that is trusted")
	a.refuses(topics.Credentials{Token: forge(`{"alg":"ES256","kid":"e1"}`, claims, "ES256", r.stranger)}, topics.Unauthorized, "no key that is trusted")

	ps := newAuth(t, Config{JWKS: file(t, "set", set(jose.JSONWebKey{Key: r.rsa.Public(), Algorithm: "PS384"}))})
	ps.lets(topics.Credentials{Token: forge(`{"alg":"PS384"}`, claims, "PS384", r.rsa)})
	ps.refuses(topics.Credentials{Token: forge(`{"alg":"RS256"}`, claims, "RS256", r.rsa)}, topics.Unauthorized, "algorithm and key id")
}
