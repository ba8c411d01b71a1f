package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// maxPassword is how long a password or user name may be that is looked at.
const maxPassword = 1024

// hash is an argon2id hash with its parameters (RFC 9106), in the PHC string
// format: $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
type hash struct {
	cost
	salt, key []byte
}

// cost is what a hash takes: KiB of memory, passes over them, lanes.
type cost struct {
	memory, time uint32
	threads      uint8
}

// defaultCost is OWASP's for small machines: 19 MiB, twice, one lane. It takes
// some 100 ms of a Raspberry Pi.
var defaultCost = cost{memory: 19 << 10, time: 2, threads: 1}

// What a hash in a file may ask for: more is a memory bomb, for this program as
// for the machine it runs on.
const (
	maxMemory  = 128 << 10 // KiB
	maxTime    = 16
	maxThreads = 16
	maxWork    = 512 << 10 // KiB, memory times passes
)

// HashPassword hashes password for the users file, with a new salt.
func HashPassword(password string) string { return newHash(password, defaultCost).String() }

func newHash(password string, c cost) hash {
	h := unmatched(c)
	h.key = h.of(password)
	return h
}

// unmatched is a hash that no password is known for.
func unmatched(c cost) hash {
	h := hash{cost: c, salt: make([]byte, 16), key: make([]byte, 32)}
	_, _ = rand.Read(h.salt) // never fails
	_, _ = rand.Read(h.key)
	return h
}

func (h hash) of(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
}

// matches reports whether h was made of password.
func (h hash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.of(password), h.key) == 1
}

func (h hash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads, b64(h.salt), b64(h.key))
}

// parseHash reads a hash. Its errors don't show it.
func parseHash(s string) (hash, error) {
	const shape = "it takes $argon2id$v=19$m=...,t=...,p=...$salt$hash, as \"beckon passwd\" writes it"
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" {
		return hash{}, errors.New("is not a hash: " + shape)
	}
	if parts[1] != "argon2id" {
		return hash{}, errors.New("is a hash of another kind: " + shape)
	}
	if parts[2] != "v=19" {
		return hash{}, errors.New("is a hash of another version of argon2: " + shape)
	}
	c, err := parseCost(parts[3])
	if err != nil {
		return hash{}, err
	}
	h := hash{cost: c}
	b64 := base64.RawStdEncoding.Strict()
	if h.salt, err = b64.DecodeString(parts[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return hash{}, errors.New("is a hash whose salt is not 8 to 64 bytes in base64: " + shape)
	}
	if h.key, err = b64.DecodeString(parts[5]); err != nil || len(h.key) < 16 || len(h.key) > 64 {
		return hash{}, errors.New("is a hash of which not 16 to 64 bytes in base64 are there: " + shape)
	}
	if h.String() != s { // base64 lets line ends pass
		return hash{}, errors.New("is not a hash: " + shape)
	}
	return h, nil
}

func parseCost(s string) (cost, error) {
	wrong := fmt.Errorf("is a hash with parameters that are not taken: m is 8p to %d, t 1 to %d, p 1 to %d, m*t at most %d",
		maxMemory, maxTime, maxThreads, maxWork)
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return cost{}, wrong
	}
	var values [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		number, ok := strings.CutPrefix(parts[i], name)
		v, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil || strconv.FormatUint(v, 10) != number {
			return cost{}, wrong
		}
		values[i] = v
	}
	m, t, p := values[0], values[1], values[2]
	if p < 1 || p > maxThreads || m < 8*p || m > maxMemory || t < 1 || t > maxTime || m*t > maxWork {
		return cost{}, wrong
	}
	return cost{uint32(m), uint32(t), uint8(p)}, nil
}

// weak reports whether a hash is cheaper than the least that OWASP has (m=7168,
// t=5, p=1, and more memory with fewer passes).
func (c cost) weak() bool { return c.work() < 7168*5 }

func (c cost) work() uint64 { return uint64(c.memory) * uint64(c.time) }
