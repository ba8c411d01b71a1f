package turn

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

const minSecret = 16 // bytes

// NewSecret makes a secret, for an embedded server that shares it with nobody.
func NewSecret() []byte {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	return []byte(hex.EncodeToString(random))
}

// ParseSecret reads the file of a secret: what stands in it, without the end of
// the line. coturn has the same text as static-auth-secret.
func ParseSecret(file []byte) ([]byte, error) {
	secret := bytes.TrimRight(file, "\r\n")
	return secret, checkSecret(secret)
}

func checkSecret(secret []byte) error {
	const advice = `; make one with "openssl rand -hex 32"`
	switch {
	case len(secret) < minSecret:
		return fmt.Errorf("the secret has %d bytes, it takes %d or more%s", len(secret), minSecret, advice)
	case bytes.Count(secret, secret[:1]) == len(secret):
		return errors.New("the secret is one byte over and over" + advice)
	case bytes.ContainsAny(secret, "\r\n"):
		return errors.New("the secret has more than one line" + advice)
	}
	return nil
}

// username is that of name until end.
func username(name string, end time.Time) string {
	return strconv.FormatInt(end.Unix(), 10) + ":" + name
}

// parseUsername takes a username apart.
func parseUsername(username string) (name string, end time.Time, err error) {
	seconds, name, ok := strings.Cut(username, ":")
	n, parseErr := strconv.ParseUint(seconds, 10, 40)
	if !ok || parseErr != nil || !topics.ValidName(name) {
		return "", time.Time{}, errors.New("the user name is not of this scheme")
	}
	return name, time.Unix(int64(n), 0), nil
}

// password is the credential of a username.
func password(secret []byte, username string) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
