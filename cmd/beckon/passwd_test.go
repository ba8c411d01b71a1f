package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// typed runs a command with something on its standard input.
func typed(t testing.TB, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	stdin, err := os.Open(writeFile(t, "stdin", input))
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	var out, errs bytes.Buffer
	parser, err := newParser(new(commands), kong.Writers(&out, &errs))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(args)
	if err == nil {
		err = parsed.Run(output{stdin, &out, &errs})
	} else {
		err = usage(err)
	}
	code = report(&errs, err)
	return code, out.String(), errs.String()
}

func TestPasswdAddsAnAccountThatLogsIn(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users.yaml")
	for name, input := range map[string]string{"cam1": "a password\n", "cam2": "a password\r\n", "cam3": " spaces stay "} {
		code, stdout, stderr := typed(t, input, "passwd", "--users", users, name, "--room=garage", "--device")
		if code != exitOK || stdout != "" || !strings.Contains(stderr, name) || strings.Contains(stderr, "password\n") && strings.Contains(stderr, "a password") {
			t.Fatalf("%s: exit code %d, %q, %q", name, code, stdout, stderr)
		}
	}
	code, generated, _ := typed(t, "", "passwd", "--users", users, "alice", "--room=garage", "--room=yard-*", "--generate")
	generated = strings.TrimSpace(generated)
	if code != exitOK || len(generated) < 24 {
		t.Fatalf("--generate: exit code %d, %q", code, generated)
	}
	if info, err := os.Stat(users); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info.Mode(), err)
	}
	s := startSite(t, "--users="+users)
	s.member(t, mqtt5TCP, "cam1", "a password").leave()
	s.member(t, mqtt5TCP, "cam2", "a password").leave()
	s.member(t, jsonWS, "cam3", " spaces stay ").leave()
	s.member(t, jsonWS, "alice", generated).leave()

	before, _ := os.ReadFile(users)
	if code, _, stderr := typed(t, "another password", "passwd", "--users", users, "cam1"); code != exitOK {
		t.Fatal(stderr)
	}
	after, _ := os.ReadFile(users)
	if bytes.Equal(before, after) || strings.Count(string(after), "cam1") != 1 || strings.Count(string(after), "device: true") != 3 {
		t.Errorf("a new password made of\n%s\n%s", before, after)
	}
	for _, password := range []string{"a password", "another password", generated} {
		if strings.Contains(string(after), password) {
			t.Errorf("a password stands in the file:\n%s", after)
		}
	}
	eventually(t, "the new password to count", func() bool {
		c, err := s.login(t, mqtt5TCP, "cam1", "another password")
		if err == nil {
			c.leave()
		}
		return err == nil
	})
}

func TestPasswdRefusesWhatWouldNotWork(t *testing.T) {
	good := usersFile(t, map[string]string{"alice": alicePwd})
	broken := writeFile(t, "broken.yaml", "- nmae: x\n")
	for name, c := range map[string]struct {
		input string
		args  []string
		words []string
	}{
		"no file":             {"a password", []string{"cam1"}, []string{"--users"}},
		"no name":             {"a password", []string{"--users", good}, []string{"<name>"}},
		"no password":         {"", []string{"--users", good, "cam1", "--room=a"}, []string{"8 characters"}},
		"short password":      {"short\n", []string{"--users", good, "cam1", "--room=a"}, []string{"8 characters"}},
		"long password":       {strings.Repeat("x", 1025), []string{"--users", good, "cam1", "--room=a"}, []string{"1024"}},
		"two lines":           {"a password\nof two lines\n", []string{"--users", good, "cam1", "--room=a"}, []string{"one line"}},
		"no text":             {"a password\xff", []string{"--users", good, "cam1", "--room=a"}, []string{"text"}},
		"bad name":            {"a password", []string{"--users", good, "cam/1", "--room=a"}, []string{`"cam/1"`}},
		"bad room":            {"a password", []string{"--users", good, "cam1", "--room=a/b"}, []string{`"a/b"`}},
		"no room":             {"a password", []string{"--users", good, "cam1"}, []string{"cam1", "may do nothing"}},
		"no such role":        {"a password", []string{"--users", good, "cam1", "--room=a", "--role=boss"}, []string{"--role", "observer"}},
		"viewer of nobody":    {"a password", []string{"--users", good, "v", "--room=a", "--role=viewer"}, []string{"--peer"}},
		"peer without viewer": {"a password", []string{"--users", good, "v", "--room=a", "--peer=cam1"}, []string{"--role viewer"}},
		"role without a room": {"a password", []string{"--users", good, "alice", "--role=admin"}, []string{"--room"}},
		"broken file":         {"a password", []string{"--users", broken, "cam1", "--room=a"}, []string{"nmae", "stays as it is"}},
		"folder not there":    {"a password", []string{"--users", "/none/users.yaml", "cam1", "--room=a"}, []string{"/none"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(good)
			code, stdout, stderr := typed(t, c.input, append([]string{"passwd"}, c.args...)...)
			if code != exitUsage || stdout != "" {
				t.Errorf("exit code %d, %q", code, stdout)
			}
			for _, w := range c.words {
				if !strings.Contains(stderr, w) {
					t.Errorf("%q is missing in %s", w, stderr)
				}
			}
			if after, _ := os.ReadFile(good); !bytes.Equal(before, after) {
				t.Errorf("the file was changed to\n%s", after)
			}
			if c.input != "" && strings.Contains(stderr, strings.TrimSpace(c.input)) {
				t.Error("the password is shown")
			}
		})
	}
}
