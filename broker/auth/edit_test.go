package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

var garage = []topics.Grant{{Room: "garage", Role: topics.Peer}}

func TestEditsLeaveAFileAloneThatIsNoListInYAML(t *testing.T) {
	for _, content := range []string{
		"- [" + planted, "{", "\"" + planted, "\x00", "\x80", "\xfe\xff\x00", "*" + planted, "%" + planted, "\t" + planted, "@" + planted, "...\n", "%YAML 1.1\n",
		planted + ": x: y", planted, "<html>" + planted, "{\"" + planted + "\": 1}", "-----BEGIN PRIVATE KEY-----\n" + planted + "\n-----END PRIVATE KEY-----\n",
		"!!x", "?", "-", "- &a [*a]", "--- >\n", "[]\n---\n[]\n", "---\n---\n- {name: cam2}\n", "# cam2\n---\n---\n- cam2\n",
	} {
		path := file(t, "file.yaml", content)
		err := SetUser(path, Account{Name: "cam1", Password: cheap(password), Grants: garage})
		_, keyErr := AddAPIKey(path, "shop", garage, 0)
		for _, err := range []error{err, keyErr} {
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "stays as it is") {
				t.Errorf("%q: got %v", content, err)
				continue
			}
			noSecrets(t, err.Error())
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != content {
			t.Errorf("%q became %q, %v", content, after, err)
		}
	}
}

func TestEditsAtOnceLoseNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no lock on Windows")
	}
	folder := t.TempDir()
	users, keys := filepath.Join(folder, "users.yaml"), filepath.Join(folder, "keys.yaml")
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(users, link); err != nil {
		t.Fatal(err)
	}
	const each = 10
	put(t, users, account("first")) // for the link to be followed
	var all sync.WaitGroup
	for i := range each {
		for kind, path := range []string{users, link} {
			all.Go(func() {
				if err := SetUser(path, Account{Name: fmt.Sprintf("cam%d-%d", kind, i), Password: cheap(password), Grants: garage}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if _, err := AddAPIKey(keys, fmt.Sprint("key", i), garage, time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	a := newAuth(t, Config{Users: users, APIKeys: keys, JWTKey: file(t, "key", tokenSecret)})
	if s := a.state.Load(); len(s.users.byName) != 2*each+1 || len(s.apiKeys) != each {
		t.Errorf("there are %d accounts and %d keys", len(s.users.byName), len(s.apiKeys))
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

func TestAddAPIKeyKeepsWhatIsThere(t *testing.T) {
	path := file(t, "keys.yaml", "# ours\n- name: shop # the first\n  hash: sha256:"+strings.Repeat("0", 64)+"\n  rooms: lobby\n")
	grants := []topics.Grant{{Room: "garage", Role: topics.Viewer, Of: "cam1"}, {Room: "yard*", Role: topics.Admin}}
	key, err := AddAPIKey(path, "staff", grants, 90*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "# ours") || !strings.Contains(string(text), "# the first") || strings.Contains(string(text), key) {
		t.Errorf("the file is %s, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("it is %v, %v", info, err)
	}
	a := newAuth(t, Config{APIKeys: path, JWTKey: file(t, "key", tokenSecret)})
	for _, k := range a.state.Load().apiKeys {
		if k.name == "staff" && (len(k.grants) != 2 || k.grants[0] != grants[0] || k.grants[1] != grants[1] || k.ttl != 90*time.Minute) {
			t.Errorf("it is %+v", k)
		}
	}
	if _, _, err := a.MintToken(t.Context(), topics.Credentials{Token: key}, Claims{Name: "x", Rooms: []string{"yard1"}}); err != nil {
		t.Error(err)
	}
	for name, again := range map[string]func() (string, error){
		"a name twice": func() (string, error) { return AddAPIKey(path, "shop", garage, 0) },
		"no name":      func() (string, error) { return AddAPIKey(path, "a b", garage, 0) },
		"no grants":    func() (string, error) { return AddAPIKey(path, "other", nil, 0) },
		"endless":      func() (string, error) { return AddAPIKey(path, "other", garage, 2*maxAhead) },
	} {
		if key, err := again(); err == nil || key != "" {
			t.Errorf("%s: got %q, %v", name, key, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(text) {
		t.Errorf("the file became %s, %v", after, err)
	}
}
