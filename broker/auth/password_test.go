package auth

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestHashIsReadAsItWasWritten(t *testing.T) {
	text := HashPassword(password)
	h, err := parseHash(text)
	if err != nil {
		t.Fatal(err)
	}
	if h.cost != defaultCost || h.weak() || h.String() != text {
		t.Errorf("got %v for %s", h, text)
	}
	if again := HashPassword(password); again == text {
		t.Error("two hashes of a password are the same")
	}
	for tried, want := range map[string]bool{password: true, password + " ": false, "": false} {
		if h.matches(tried) != want {
			t.Errorf("%q: %v", tried, !want)
		}
	}
}

func TestHashOfTheReferenceIsTaken(t *testing.T) {
	// From the tests of the reference implementation (phc-winner-argon2, test.c).
	h, err := parseHash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil {
		t.Fatal(err)
	}
	if !h.matches("password") {
		t.Error("its password is not known")
	}
}

func TestBrokenHashesAreRefused(t *testing.T) {
	good := cheap(password)
	parts := strings.Split(good, "$")
	with := func(i int, s string) string {
		p := slices.Clone(parts)
		p[i] = s
		return strings.Join(p, "$")
	}
	for _, s := range []string{
		"", "$", "$$$$$", "x" + good, good + "$", good + "=", good + "\n", " " + good,
		with(1, "argon2d"), with(1, "ARGON2ID"), with(2, "v=16"), with(2, "v=019"), with(2, ""),
		with(3, "m=64,t=1"), with(3, "t=1,m=64,p=1"), with(3, "m=64,t=1,p=1,x=1"), with(3, "m=064,t=1,p=1"), with(3, "m=+64,t=1,p=1"),
		with(3, "m=7,t=1,p=1"), with(3, "m=64,t=0,p=1"), with(3, "m=64,t=1,p=0"), with(3, "m=64,t=1,p=9"),
		with(3, "m=131073,t=1,p=1"), with(3, "m=131072,t=5,p=1"), with(3, "m=64,t=17,p=1"), with(3, "m=1024,t=1,p=17"),
		with(3, "m=4294967296,t=1,p=1"), with(3, "m=18446744073709551616,t=1,p=1"), with(3, "m=-64,t=1,p=1"),
		with(4, ""), with(4, "AAAA"), with(4, "!!!!"), with(4, strings.Repeat("A", 100)), with(4, parts[4]+"\n"),
		with(5, ""), with(5, "AAAA"), with(5, strings.Repeat("A", 1000)),
	} {
		if h, err := parseHash(s); err == nil {
			t.Errorf("%q was taken: %v", s, h)
		}
	}
}

func TestUnknownNameAndWrongPasswordAreOne(t *testing.T) {
	threat.Row(t, 29, 0)
	users := file(t, "users.yaml", account("cam1")+account("cam2"))
	a := newAuth(t, Config{Users: users, Logins: -1})
	var texts []string
	for _, c := range []topics.Credentials{byName("cam1", "wrong"), byName("nobody", "wrong"), byName("nobody", password)} {
		before := a.hasher.hashed.Load()
		texts = append(texts, a.refuses(c, topics.Unauthorized, "").Message)
		if n := a.hasher.hashed.Load() - before; n != 1 {
			t.Errorf("%s: %d hashes were made", c.Username, n)
		}
	}
	if texts[0] != texts[1] || texts[0] != texts[2] {
		t.Errorf("the texts differ: %q", texts)
	}
}

func TestUnknownNameTakesAsLongAsWrongPassword(t *testing.T) {
	threat.Row(t, 29, 0)
	c := cost{memory: 4 << 10, time: 2, threads: 1}
	users := file(t, "users.yaml", "- name: cam1\n  rooms: garage\n  password: "+newHash(password, c).String()+"\n")
	a := newAuth(t, Config{Users: users, Logins: -1})
	names := []string{"cam1", "nobody"}
	took := make(map[string][]time.Duration)
	for range 25 { // by turns, so that both see the same noise
		for _, name := range names {
			begin := time.Now()
			a.refuses(byName(name, "wrong"), topics.Unauthorized, "name or password wrong")
			took[name] = append(took[name], time.Since(begin))
			a.hasher.strangers.rested() // what the next would wait for
		}
	}
	median := func(name string) float64 {
		slices.Sort(took[name])
		return float64(took[name][len(took[name])/2])
	}
	ratio := median("cam1") / median("nobody")
	t.Logf("wrong takes %.3f times as long as unknown", ratio)
	if ratio < 0.67 || ratio > 1.5 {
		t.Errorf("wrong takes %.2f times as long as unknown", ratio)
	}
}

func TestDifferentCostsAreWarnedOf(t *testing.T) {
	users := account("cam1") + account("cam2") + "- name: cam3\n  rooms: garage\n  password: " + newHash(password, cost{128, 1, 1}).String() + "\n"
	a := newAuth(t, Config{Users: file(t, "users.yaml", users)})
	out := a.out.String()
	for _, part := range []string{"weaker than they should be", "differ in cost", "accounts=3", "accounts=1"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in: %s", part, out)
		}
	}
	if c := a.state.Load().users.nobody.cost; c.memory != 64 {
		t.Errorf("an unknown name costs %+v", c)
	}
}

func TestCertificateAccountCannotLogInByPassword(t *testing.T) {
	k := newCA(t, "CA")
	a := newAuth(t, Config{Users: file(t, "users.yaml", "- name: cam1\n  rooms: garage\n"+account("cam2")), ClientCA: k.file(t)})
	before := a.hasher.hashed.Load()
	a.refuses(byName("cam1", ""), topics.Unauthorized, "missing")
	a.refuses(byName("cam1", password), topics.Unauthorized, "name or password wrong")
	if a.hasher.hashed.Load() == before {
		t.Error("it took no time, by which such accounts can be told")
	}
}
