package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"go.uber.org/goleak"
)

// TestMain hashes passwords when a test starts the test binary for that.
func TestMain(m *testing.M) {
	if slices.Equal(os.Args[1:], []string{"hash"}) {
		if err := ServeHashes(os.Stdin, os.Stdout); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// planted is in every password and secret of these tests: no log line and no
// error may have it.
const planted = "hunter2-pl4nt3d-s3cr3t"

const password = "password " + planted

// output is what an Auth logs and answers in a test.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// noSecrets fails the test if text has a planted secret, in any of three forms.
func noSecrets(t *testing.T, text string) {
	t.Helper()
	forms := []string{planted, hex.EncodeToString([]byte(planted)), strings.Trim(fmt.Sprint([]byte(planted)), "[]"), "$argon2id$v=19$m=64"}
	for i := range 3 { // base64 depends on where in three bytes it begins
		form := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", i) + planted))
		forms = append(forms, form[4:len(form)-4])
	}
	for _, form := range forms {
		if strings.Contains(text, form) {
			t.Errorf("a secret (as %q) is in: %s", form, text)
		}
	}
}

// clock is time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// subject is an Auth under test.
type subject struct {
	*Auth
	t   *testing.T
	out *output
}

// newAuth makes an Auth of c, which must be good.
func newAuth(t *testing.T, c Config) *subject {
	t.Helper()
	out := new(output)
	c.Logger = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := New(c)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		noSecrets(t, out.String())
	})
	return &subject{a, t, out}
}

// lets expects that c gets in, and returns who it is.
func (s *subject) lets(c topics.Credentials) topics.Identity {
	s.t.Helper()
	id, err := s.Authenticate(context.Background(), c)
	if err != nil {
		s.t.Fatalf("%s was refused: %v", c.Username, err)
	}
	return id
}

// refuses expects that c does not get in, with that code and those words.
func (s *subject) refuses(c topics.Credentials, code topics.Code, words string) *topics.Error {
	s.t.Helper()
	id, err := s.Authenticate(context.Background(), c)
	return refused(s.t, id, err, code, words)
}

func refused(t *testing.T, id topics.Identity, err error, code topics.Code, words string) *topics.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("got in as %+v, want %d", id, code)
	}
	e, ok := err.(*topics.Error)
	if !ok {
		t.Fatalf("the error is a %T: %v", err, err)
	}
	if e.Code != code || !strings.Contains(e.Message, words) {
		t.Errorf("got %v, want %d with %q", err, code, words)
	}
	if id.Name != "" || id.Grants != nil {
		t.Errorf("an identity comes with the error: %+v", id)
	}
	noSecrets(t, e.Message)
	return e
}

// file writes content into a new file, mode 0600.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	put(t, path, content)
	return path
}

// put writes content at path, by a rename.
func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// cheap is a hash that costs next to nothing.
func cheap(password string) string { return newHash(password, cost{64, 1, 1}).String() }

// account is an entry of a users file: a camera in the garage.
func account(name string) string {
	return "- name: " + name + "\n  password: " + cheap(password) + "\n  rooms: garage\n"
}

var elsewhere = netip.MustParseAddr("198.51.100.7")

func byName(name, password string) topics.Credentials {
	return topics.Credentials{Username: name, Password: password, Remote: elsewhere}
}

// loggerOf hands each line to f.
func loggerOf(f func(line string)) *slog.Logger {
	return slog.New(slog.NewTextHandler(writer(f), nil))
}

type writer func(string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}
