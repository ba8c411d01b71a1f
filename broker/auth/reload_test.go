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
	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestReloadKeepsWhatWasThereOnAMistake(t *testing.T) {
	threat.Row(t, 33, 0)
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

func TestGuestsFollowTheAccountOfTheirHost(t *testing.T) {
	hash := cheap(password)
	entry := func(rest string) string { return "- name: alice\n  password: " + hash + "\n" + rest }
	users, key := file(t, "users.yaml", entry("  rooms: garage\n")), file(t, "key", tokenSecret)
	a := newAuth(t, Config{Users: users, JWTKey: key})
	guest, err := a.lets(byName("alice", password)).Guest("http-1", "garage", "cam1")
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := a.SignToken(Claims{Name: "bob", Rooms: []string{"garage"}})
	if err != nil {
		t.Fatal(err)
	}
	byToken, err := a.lets(topics.Credentials{Token: token}).Guest("http-2", "garage", "cam1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		users, why string
		code       topics.Code
	}{
		{users: entry("  rooms: garage\n  role: viewer\n  peer: cam1\n")},
		{users: entry("  rooms: garage\n  role: viewer\n  peer: cam2\n"), why: "alice may not call cam1 in garage", code: topics.Forbidden},
		{users: entry("  rooms: garage\n  role: observer\n"), why: "alice may not call cam1 in garage", code: topics.Forbidden},
		{users: entry("  rooms: attic\n"), why: "alice may not call cam1 in garage", code: topics.Forbidden},
		{users: account("alice"), why: "the password of alice was changed", code: topics.Unauthorized},
		{users: account("bob"), why: "the account alice was taken away", code: topics.Unauthorized},
	} {
		put(t, users, c.users)
		if err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		now, err := a.Recheck(guest)
		if c.code != 0 {
			refused(t, now, err, c.code, c.why)
		} else if err != nil || now.Name != "http-1" || now.Account != "alice" || len(now.Grants) != 1 || now.Grants[0] != guest.Grants[0] {
			t.Errorf("it is %+v, %v", now, err)
		}
		if now, err := a.Recheck(byToken); err != nil || now.Name != "http-2" || now.Account != "bob" {
			t.Errorf("bob's is %+v, %v", now, err)
		}
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

func TestFileThatIsWrittenInTwoHalvesIsReadWhole(t *testing.T) {
	users := file(t, "users.yaml", account("cam1")+account("cam2"))
	a := newAuth(t, Config{Users: users})
	changes := a.run()
	id := a.lets(byName("cam2", password))
	whole := account("cam1") + "- name: cam2\n  password: " + a.state.Load().users.user("cam2").Password + "\n  rooms: garage\n"
	at := strings.Index(whole, "- name: cam2") // each half is good
	pause := settle * 3 / 2                    // a single look would see the first half
	if err := os.WriteFile(users, []byte(whole+account("cam3")), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, changes, "a write after which the files are looked after")
	for range 20 {
		begin := time.Now()
		if err := os.WriteFile(users, []byte(whole[:at]), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause)
		f, err := os.OpenFile(users, os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(whole[at:]); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > settle*9/5 {
			t.Logf("the machine is slow: it took %v; once more", took)
			for quiet := false; !quiet; { // it may have read both halves, one after the other
				select {
				case <-changes:
				case <-time.After(2 * settle):
					quiet = true
				}
			}
			continue
		}
		await(t, changes, "a write in two halves")
		if a.state.Load().users.user("cam2") == nil {
			t.Fatal("the first half was read")
		}
		if _, err := a.Recheck(id); err != nil {
			t.Errorf("cam2 is out: %v", err)
		}
		return
	}
	t.Skip("this machine is too slow for it")
}

func TestSettling(t *testing.T) {
	path := file(t, "users.yaml", "1")
	files := func() fingerprints {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return fingerprints{path: info}
	}
	zero := time.Now()
	at := func(d time.Duration) time.Time { return zero.Add(d) }
	due := func(s *settling, want time.Duration) {
		t.Helper()
		if got := s.due.Sub(zero); got != want {
			t.Errorf("the look is at %v, want %v", got, want)
		}
	}
	t.Run("from the last sign", func(t *testing.T) {
		s := settling{last: files()}
		s.sign(at(0))
		due(&s, settle)
		s.sign(at(settle / 2))
		due(&s, settle*3/2)
		put(t, path, "12")
		if s.looked(at(settle*3/2), files()) {
			t.Error("read at the first look")
		}
		due(&s, settle*5/2)
		s.sign(at(2 * settle)) // the writer was not done
		due(&s, 3*settle)
		put(t, path, "123")
		if s.looked(at(3*settle), files()) {
			t.Error("read though it changed")
		}
		if !s.looked(at(4*settle), files()) || !s.due.IsZero() {
			t.Error("not read though nothing changes")
		}
	})
	t.Run("a folder where much goes on", func(t *testing.T) {
		s := settling{last: files()}
		put(t, path, "1234")
		for d := time.Duration(0); d < 10*settleMost; d += settle / 10 {
			if !s.due.IsZero() && !at(d).Before(s.due) {
				if d > settleMost+settle {
					t.Errorf("the look is at %v", d)
				}
				if s.looked(at(d), files()) {
					return
				}
			}
			s.sign(at(d))
		}
		t.Error("never read")
	})
	t.Run("a file that never rests", func(t *testing.T) {
		s := settling{last: files()}
		s.sign(at(0))
		for d := settle; ; d += settle {
			put(t, path, strings.Repeat("x", int(d/settle)))
			if s.looked(at(d), files()) {
				if d != growMost {
					t.Errorf("read at %v", d)
				}
				return
			}
			if d > growMost {
				t.Fatal("never read")
			}
			s.sign(at(d))
		}
	})
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
