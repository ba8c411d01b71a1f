package main

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPIKeyIsShownOnceAndMakesTokens(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	code, stdout, stderr := typed(t, "", "api-key", "--api-key", keys, "shop", "--room=garage", "--room=shop-*", "--ttl=10m")
	key := strings.TrimSpace(stdout)
	if code != exitOK || !strings.HasPrefix(key, "beckon_") || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if strings.Contains(stderr, key) || !strings.Contains(stderr, "shop") {
		t.Errorf("it says %s", stderr)
	}
	if code, _, stderr := typed(t, "", "api-key", "--api-key", keys, "wall", "--room=garage", "--role=viewer", "--peer=cam1"); code != exitOK {
		t.Fatal(stderr)
	}
	if info, err := os.Stat(keys); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	text, err := os.ReadFile(keys)
	if err != nil || bytes.Contains(text, []byte(key)) || !bytes.Contains(text, []byte("ttl: 10m\n")) || !bytes.Contains(text, []byte("peer: cam1")) {
		t.Errorf("the file is %s, %v", text, err)
	}
	s := startSite(t, "--jwt-key="+writeFile(t, "jwt.key", secret), "--api-key="+keys)
	url := s.URL + "/api/v1/tokens"
	for body, want := range map[string]int{
		`{"name":"guest-1","room":"shop-1"}`:             http.StatusCreated,
		`{"name":"guest-1","room":"shop-1","ttl":600}`:   http.StatusCreated,
		`{"name":"guest-1","room":"shop-1","ttl":601}`:   http.StatusForbidden,
		`{"name":"guest-1","room":"attic"}`:              http.StatusForbidden,
		`{"name":"guest-1","room":"garage","role":"ad"}`: http.StatusBadRequest,
	} {
		if got, text := post(t, url, body, "Authorization", "Bearer "+key); got.StatusCode != want {
			t.Errorf("%s: %s %s", body, got.Status, text)
		}
	}
}

func TestAPIKeyRefusesWhatWouldNotWork(t *testing.T) {
	good := writeFile(t, "keys.yaml", "# ours\n- {name: shop, rooms: garage, hash: \"sha256:"+strings.Repeat("0", 64)+"\"}\n")
	broken := writeFile(t, "broken.yaml", "- nmae: hunter2\n")
	noYAML := writeFile(t, "no.yaml", "- [hunter2\n")
	for name, c := range map[string]struct {
		args  []string
		words []string
	}{
		"no file":             {[]string{"new", "--room=a"}, []string{"--api-key"}},
		"no name":             {[]string{"--api-key", good, "--room=a"}, []string{"<name>"}},
		"no room":             {[]string{"--api-key", good, "new"}, []string{"--room"}},
		"a name twice":        {[]string{"--api-key", good, "shop", "--room=a"}, []string{good, "shop is there already, in line 2"}},
		"bad name":            {[]string{"--api-key", good, "a/b", "--room=a"}, []string{`"a/b"`}},
		"bad room":            {[]string{"--api-key", good, "new", "--room=a/b"}, []string{`"a/b"`}},
		"no such role":        {[]string{"--api-key", good, "new", "--room=a", "--role=boss"}, []string{"--role"}},
		"viewer of nobody":    {[]string{"--api-key", good, "new", "--room=a", "--role=viewer"}, []string{"--peer"}},
		"peer without viewer": {[]string{"--api-key", good, "new", "--room=a", "--peer=cam1"}, []string{"--role viewer"}},
		"no ttl":              {[]string{"--api-key", good, "new", "--room=a", "--ttl=0s"}, []string{"--ttl"}},
		"endless ttl":         {[]string{"--api-key", good, "new", "--room=a", "--ttl=200000h"}, []string{"ttl", "ten years"}},
		"broken file":         {[]string{"--api-key", broken, "new", "--room=a"}, []string{"nmae", "stays as it is"}},
		"no YAML":             {[]string{"--api-key", noYAML, "new", "--room=a"}, []string{"not YAML", "stays as it is"}},
		"folder not there":    {[]string{"--api-key", "/none/keys.yaml", "new", "--room=a"}, []string{"/none"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(good)
			code, stdout, stderr := typed(t, "", append([]string{"api-key"}, c.args...)...)
			if code != exitUsage || stdout != "" {
				t.Errorf("exit code %d, %q", code, stdout)
			}
			for _, w := range c.words {
				if !strings.Contains(stderr, w) {
					t.Errorf("%q is missing in %s", w, stderr)
				}
			}
			if strings.Contains(stderr, "hunter2") {
				t.Errorf("it quotes the file: %s", stderr)
			}
			if after, _ := os.ReadFile(good); !bytes.Equal(before, after) {
				t.Errorf("the file was changed to\n%s", after)
			}
		})
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

func TestAPIKeyThatCannotBeShownIsSaidToBeThere(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	k := apiKey{File: keys, Name: "shop", Room: []string{"garage"}, Role: "peer", TTL: 3600e9}
	var stderr bytes.Buffer
	if err := k.Run(output{nil, full{}, &stderr}); err == nil || !strings.Contains(err.Error(), "shop is in "+keys) {
		t.Errorf("got %v", err)
	}
}
