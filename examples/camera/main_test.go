package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain checks for leaks. A paho client that was disconnected while it waited
// to connect again sleeps out its interval before it ends.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/eclipse/paho%2emqtt%2egolang.(*client).Connect.func1"),
		goleak.IgnoreAnyFunction("github.com/eclipse/paho%2emqtt%2egolang.(*client).Disconnect.func1"))
}

func TestFlagsBecomeSettings(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := parseFlags(strings.Fields("--room yard --peer cam7 --name Gate --offers --no-trickle --max 4096 --password-file " + secret))
	if err != nil {
		t.Fatal(err)
	}
	if s.link.user != "cam7" || s.link.password != "s3cret" || s.link.room != "yard" || s.trickle {
		t.Errorf("link %+v, trickle %v", s.link, s.trickle)
	}
	p := s.link.presence
	if !p.Online || p.Role != "camera" || p.Name != "Gate" || !p.Offers || p.Trickle || p.Max != 4096 {
		t.Errorf("presence %+v", p)
	}
}

func TestAllMistakesInTheFlagsAreToldAtOnce(t *testing.T) {
	_, err := parseFlags([]string{"--room", "a/b", "--peer", "+", "--password-file", "/nonexistent", "stray"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, mistake := range []string{`"a/b"`, `"+"`, "/nonexistent", `"stray"`} {
		if !strings.Contains(err.Error(), mistake) {
			t.Errorf("%s is not in %q", mistake, err)
		}
	}
}

func TestCameraWithoutBrokerEndsWhenItIsTold(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	read, write := io.Pipe()
	go func() {
		write.CloseWithError(run(ctx, []string{"--broker", "tcp://127.0.0.1:1"}, write))
	}()
	lines, err := io.ReadAll(read)
	if err != nil {
		t.Error(err)
	}
	if got := string(lines); strings.Contains(got, "ready") || strings.Count(got, "trying again") != 1 {
		t.Errorf("it says %q", got)
	}
}

func TestWrongSettingsAreRefusedBeforeAnythingIsDone(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("nothing of use"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--broker", "localhost"}, {"--ca", broken}, {"--file", broken}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
