package auth

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

func TestReloadKeepsWhatWasThereOnAMistake(t *testing.T) {
	users, key := file(t, "users.yaml", account("cam1")+account("cam2")), file(t, "key", tokenSecret)
	a := newAuth(t, Config{Users: users, JWTKey: key})
	id := a.lets(byName("cam1", password))
	put(t, users, account("cam2")+"  colour: red\n")
	put(t, key, "short")
	err := a.Reload()
	if err == nil {
		t.Fatal("nothing was said of the mistakes")
	}
	noSecrets(t, err.Error())
	for _, part := range []string{"stays in force", users + ":4", "colour", key, "32 or more"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in: %v", part, err)
		}
	}
	if _, err := a.Recheck(id); err != nil {
		t.Errorf("cam1 is out: %v", err)
	}
	a.lets(byName("cam1", password))
	if _, _, err := a.SignToken(Claims{Name: "x", Rooms: []string{"r"}}); err != nil {
		t.Error(err)
	}
	// One that is good counts, though the other is still wrong.
	put(t, users, account("cam2"))
	if err := a.Reload(); err == nil || strings.Contains(err.Error(), users) {
		t.Errorf("got %v", err)
	}
	none, err := a.Recheck(id)
	refused(t, none, err, topics.Unauthorized, "the account cam1 was taken away")
	if err := os.Remove(users); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), users) {
		t.Errorf("got %v", err)
	}
	a.lets(byName("cam2", password))
}

func TestRecheckFollowsTheAccount(t *testing.T) {
	hash := cheap(password)
	entry := func(rest string) string { return "- name: cam1\n  password: " + hash + "\n" + rest }
	users := file(t, "users.yaml", entry("  rooms: garage\n"))
	a := newAuth(t, Config{Users: users})
	id := a.lets(byName("cam1", password))
	put(t, users, "# a comment\n"+entry("  rooms: attic\n  role: observer\n  device: true\n"))
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	now, err := a.Recheck(id)
	if err != nil || len(now.Grants) != 1 || now.Grants[0] != (topics.Grant{Room: "attic", Role: topics.Observer}) || !now.Device {
		t.Errorf("it is %+v, %v", now, err)
	}
	put(t, users, account("cam1")) // the same password with another salt
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	none, err := a.Recheck(now)
	refused(t, none, err, topics.Unauthorized, "the password of cam1 was changed")
	anyone, err := Dev(context.Background(), topics.Credentials{Name: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	if same, err := a.Recheck(anyone); err != nil || same.Name != "dev" {
		t.Errorf("got %+v, %v", same, err)
	}
}

// run runs a until the test ends. The channel has an item for each change.
func (s *subject) run() <-chan struct{} {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	changes, done := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx, func() { changes <- struct{}{} }); err != nil {
			s.t.Errorf("Run: %v", err)
		}
	}()
	s.t.Cleanup(func() { cancel(); <-done })
	return changes
}

func await(t *testing.T, changes <-chan struct{}, of string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(9 * time.Second): // the poll is at 10 s
		t.Fatalf("%s was not noticed", of)
	}
}

func TestChangesOfFilesAreNoticed(t *testing.T) {
	users := file(t, "users.yaml", account("cam1"))
	a := newAuth(t, Config{Users: users})
	put(t, users, account("cam2")) // between New and Run
	changes := a.run()
	await(t, changes, "a change before Run")
	a.lets(byName("cam2", password))

	put(t, users, account("cam3"))
	await(t, changes, "a rename")
	a.lets(byName("cam3", password))
	a.refuses(byName("cam2", password), topics.Unauthorized, "")

	if err := os.WriteFile(users, []byte(account("cam4")), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, changes, "a write in place")
	a.lets(byName("cam4", password))

	if err := SetUser(users, Account{Name: "cam5", Password: cheap(password), Grants: []topics.Grant{{Room: "r", Role: topics.Peer}}}); err != nil {
		t.Fatal(err)
	}
	await(t, changes, "beckon passwd")
	a.lets(byName("cam5", password))

	if err := os.Remove(users); err != nil {
		t.Fatal(err)
	}
	put(t, users, account("cam6"))
	await(t, changes, "a file that was removed and made anew")
	a.lets(byName("cam6", password))
}

func TestBrokenFileIsLoggedAndItsRepairNoticed(t *testing.T) {
	users := file(t, "users.yaml", account("cam1"))
	a := newAuth(t, Config{Users: users})
	logged := make(chan struct{}, 10)
	a.Logger = loggerOf(func(line string) {
		_, _ = a.out.Write([]byte(line))
		if strings.Contains(line, "reload failed") {
			logged <- struct{}{}
		}
	})
	changes := a.run()
	put(t, users, "- name: cam1\n  password: "+planted+"\n")
	await(t, logged, "a broken file")
	a.lets(byName("cam1", password))
	put(t, users, account("cam2"))
	await(t, changes, "the repair")
	a.lets(byName("cam2", password))
}

// Kubernetes mounts a folder whose files are links into ..data, itself a link
// that is replaced.
func TestLinksThatAreSwappedAreNoticed(t *testing.T) {
	folder := t.TempDir()
	version := func(name, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(folder, name, "users.yaml"), content)
		if err := os.Symlink(name, filepath.Join(folder, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, "..tmp"), filepath.Join(folder, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", account("cam1"))
	users := filepath.Join(folder, "users.yaml")
	if err := os.Symlink(filepath.Join("..data", "users.yaml"), users); err != nil {
		t.Fatal(err)
	}
	a := newAuth(t, Config{Users: users})
	changes := a.run()
	a.lets(byName("cam1", password))
	version("..2", account("cam2"))
	if err := os.RemoveAll(filepath.Join(folder, "..1")); err != nil {
		t.Fatal(err)
	}
	await(t, changes, "the first swap")
	a.lets(byName("cam2", password))
	version("..3", account("cam3"))
	await(t, changes, "the second swap")
	a.lets(byName("cam3", password))
	a.refuses(byName("cam1", password), topics.Unauthorized, "")
}

func TestRunFetchesTheKeys(t *testing.T) {
	set, sign := keySet(t, "k1")
	p := publish(t, text(set))
	now := newClock()
	a := newAuth(t, Config{JWKS: p.URL, Now: now.Now})
	changes := a.run()
	await(t, changes, "the set of keys")
	id := a.lets(sign(claiming(now.Now())))
	if n := p.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}

	// One that a login brings is a change, too.
	newer, byNewer := keySet(t, "k2")
	p.now(text(newer))
	now.pass(jwksPause)
	a.lets(byNewer(claiming(now.Now())))
	await(t, changes, "a key that was taken out")
	none, err := a.Recheck(id)
	refused(t, none, err, topics.Unauthorized, "not trusted here any more")
}

func TestServerOfKeysThatHangsDelaysNoReload(t *testing.T) {
	free := make(chan struct{})
	p := publish(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-free:
		case <-r.Context().Done():
		}
	})
	defer close(free)
	users := file(t, "users.yaml", account("cam1"))
	a := newAuth(t, Config{JWKS: p.URL, Users: users})
	changes := a.run()
	put(t, users, account("cam2"))
	await(t, changes, "a new users file")
	a.lets(byName("cam2", password))
}

func TestFailedFetchOfKeysIsLogged(t *testing.T) {
	p := publish(t, status(500))
	a := newAuth(t, Config{JWKS: p.URL})
	logged := make(chan struct{}, 1)
	a.Logger = loggerOf(func(line string) {
		if strings.Contains(line, "the last ones stay in force") && strings.Contains(line, "500") {
			logged <- struct{}{}
		}
	})
	a.run()
	await(t, logged, "the failure")
}
