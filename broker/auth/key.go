package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// key checks the signatures of tokens, by exactly those algorithms that are of
// its kind; one with a secret half signs, too.
type key struct {
	id     string   // "kid", by which a token names it; "" for the key of any
	algs   []string // as RFC 7518, 3.1 and RFC 8037 name them
	verify any      // []byte, *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey
	sign   any      // nil: it signs nothing
	stamp  string   // tells it from other keys; of a secret it is a hash
}

const (
	minSecret = 32   // bytes; RFC 7518, 3.2: as long as the hash
	minRSA    = 2048 // bits; RFC 7518, 3.3
)

// parseKey reads the file of --jwt-key: a secret for HS256, or a key in PEM.
func parseKey(data []byte) (key, error) {
	if bytes.Contains(data, []byte("-----BEGIN")) {
		return parsePEM(data)
	}
	secret := trimLineEnd(data)
	if len(secret) < minSecret {
		return key{}, fmt.Errorf("the secret has %d bytes, HS256 takes %d or more; make one with \"openssl rand -hex 32\"", len(secret), minSecret)
	}
	if bytes.Count(secret, secret[:1]) == len(secret) {
		return key{}, errors.New("the secret is one byte over and over; make one with \"openssl rand -hex 32\"")
	}
	return newKey("", secret, secret)
}

// trimLineEnd cuts the line end off that an editor or "openssl rand -hex" leaves,
// but not off a secret of arbitrary bytes.
func trimLineEnd(data []byte) []byte {
	text := bytes.TrimRight(data, "\r\n")
	if bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return data
	}
	return text
}

func parsePEM(data []byte) (key, error) {
	const takes = "it takes one PUBLIC KEY (or PRIVATE KEY, to mint tokens, too) of RSA, P-256, P-384, P-521 or Ed25519"
	block, rest := pem.Decode(data)
	if block == nil {
		return key{}, errors.New("it is broken PEM: " + takes)
	}
	if bytes.Contains(rest, []byte("-----BEGIN")) && block.Type != "EC PARAMETERS" {
		return key{}, errors.New("it has more than one PEM block: " + takes + "; for several keys use --jwks")
	}
	if block.Type == "EC PARAMETERS" { // openssl ecparam writes them first
		return parsePEM(rest)
	}
	var parsed any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		parsed, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		parsed, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return key{}, fmt.Errorf("it is a PEM block %q: %s", cut(block.Type), takes)
	}
	if err != nil {
		return key{}, fmt.Errorf("its %s cannot be read: %s", block.Type, takes)
	}
	if signer, ok := parsed.(crypto.Signer); ok {
		return newKey("", signer.Public(), parsed)
	}
	return newKey("", parsed, nil)
}

// newKey makes a key of its halves. Which algorithms it takes follows from its
// kind alone, so that no token can choose (RFC 8725, 3.1).
func newKey(id string, verify, sign any) (key, error) {
	k := key{id: id, verify: verify, sign: sign}
	var public []byte
	var err error
	switch v := verify.(type) {
	case []byte:
		k.algs, public = []string{"HS256"}, v
	case *rsa.PublicKey:
		if v.N.BitLen() < minRSA {
			return key{}, fmt.Errorf("the RSA key has %d bits, it takes %d or more", v.N.BitLen(), minRSA)
		}
		k.algs = []string{"RS256"}
	case *ecdsa.PublicKey:
		alg, ok := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[v.Curve.Params().Name]
		if !ok {
			return key{}, fmt.Errorf("the key is on curve %s, it takes P-256, P-384 or P-521", v.Curve.Params().Name)
		}
		k.algs = []string{alg}
	case ed25519.PublicKey:
		k.algs = []string{"EdDSA"}
	default:
		return key{}, fmt.Errorf("the key is a %T, it takes RSA, ECDSA or Ed25519", verify)
	}
	if public == nil {
		if public, err = x509.MarshalPKIXPublicKey(verify); err != nil {
			return key{}, fmt.Errorf("the key is broken: %w", err)
		}
	}
	sum := sha256.Sum256(append([]byte("beckon key "), public...))
	k.stamp = hex.EncodeToString(sum[:12])
	return k, nil
}

// method is how the key signs.
func (k key) method() jwt.SigningMethod { return jwt.GetSigningMethod(k.algs[0]) }

// candidates are the keys by which a token with that header may be signed. A
// key without an id of its own is meant for any.
func candidates(keys []key, alg, kid string) []key {
	var fit []key
	for _, k := range keys {
		if slices.Contains(k.algs, alg) && (kid == "" || k.id == "" || k.id == kid) {
			fit = append(fit, k)
		}
	}
	return fit
}
