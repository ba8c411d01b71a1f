package auth

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

// Row 33 of package threat. To add a mistake, add a row: the file, and what must be
// said of it, each with its line.
func TestBrokenUsersFilesAreRefusedWithAllMistakes(t *testing.T) {
	pw := "password: " + cheap(password)
	entry := func(lines ...string) string { return "- " + strings.Join(lines, "\n  ") + "\n" }
	long := strings.Repeat("a", 65)
	tests := []struct {
		name, content string
		says          []string
	}{
		{"nothing", "", []string{"it is empty"}},
		{"a comment alone", "# users\n", []string{"is empty"}},
		{"an empty list", "[]\n", []string{"empty list"}},
		{"a mapping", "name: cam1\n", []string{":1: the users file is a mapping, it takes a list"}},
		{"a text", planted + "\n", []string{"it takes a list"}},
		{"not YAML", "- name: [\n", []string{"not YAML"}},
		{"tabs", "-\tname: cam1\n\t" + pw, []string{"not YAML"}},
		{"two documents", entry("name: a", pw, "rooms: r") + "---\n" + entry("name: b"), []string{"second document"}},
		{"an unquoted password that is an alias", entry("name: a", "password: *"+planted), []string{"takes quotes"}},
		{"an alias", entry("name: &x a", pw, "rooms: *x"), []string{":3: account a: rooms is an alias"}},
		{"an entry that is a text", "- cam1:" + planted + "\n", []string{":1: account 1 is a text"}},
		{"an unknown key", entry("name: a", pw, "rooms: r", "colour: red"), []string{`:4: account a has a key "colour" that nobody knows; it takes device, grants, name, password, peer, role, rooms, topics`}},
		{"a secret where a key should be", entry("name: a", pw, "rooms: r", planted+": x"), []string{":4:", "(not shown)"}},
		{"a key in another case", entry("Name: a", pw, "rooms: r"), []string{`"Name"`, "has no name"}},
		{"a key twice", entry("name: a", pw, "rooms: r", "rooms: s"), []string{":4: account a has rooms twice, also in line 3"}},
		{"a merge key", entry("<<: {rooms: r}", "name: a", pw), []string{"(not shown)"}},
		{"no name", entry(pw, "rooms: r"), []string{":1: account 1 has no name"}},
		{"an empty name", entry("name:", pw, "rooms: r"), []string{":1: account 1: name is empty"}},
		{"a name with a wildcard", entry(`name: "+"`, pw, "rooms: r"), []string{`"+" is not a name`}},
		{"a name with a slash", entry("name: a/b", pw, "rooms: r"), []string{"not a name"}},
		{"a name with NUL", entry(`name: "a\0"`, pw, "rooms: r"), []string{"not a name"}},
		{"a name of Cyrillic letters", entry("name: саm1", pw, "rooms: r"), []string{"not a name"}},
		{"a long name", entry("name: "+long, pw, "rooms: r"), []string{"not a name"}},
		{"the server's name", entry("name: _", pw, "rooms: r"), []string{"not a name"}},
		{"a name twice", entry("name: a", pw, "rooms: r") + entry("name: a", pw, "rooms: s"), []string{":4: account a is there twice, also in line 1"}},
		{"no password", entry("name: a", "rooms: r"), []string{"has no password", "beckon passwd"}},
		{"an empty password", entry("name: a", `password: ""`, "rooms: r"), []string{":2: account a: password"}},
		{"a plain password", entry("name: a", "password: "+planted, "rooms: r"), []string{":2: account a: password is not a hash"}},
		{"a hash of bcrypt", entry("name: a", "password: $2y$10$"+planted, "rooms: r"), []string{"is not a hash"}},
		{"a hash of argon2i", entry("name: a", strings.Replace(pw, "argon2id", "argon2i", 1), "rooms: r"), []string{"of another kind"}},
		{"a hash that is a memory bomb", entry("name: a", strings.Replace(pw, "m=64", "m=4000000", 1), "rooms: r"), []string{"parameters that are not taken"}},
		{"a hash that was cut", entry("name: a", pw[:len(pw)-30], "rooms: r"), []string{"16 to 64 bytes"}},
		{"no rooms", entry("name: a", pw), []string{"may do nothing"}},
		{"an empty list of rooms", entry("name: a", pw, "rooms: []"), []string{":3: account a: rooms is an empty list"}},
		{"an empty room", entry("name: a", pw, "rooms: [r, '']"), []string{":3:", "takes a text"}},
		{"rooms without a value", entry("name: a", pw, "rooms:"), []string{":3: account a: rooms is empty"}},
		{"rooms a mapping", entry("name: a", pw, "rooms: {r: s}"), []string{"rooms is a mapping"}},
		{"a star inside a room", entry("name: a", pw, "rooms: ga*ge"), []string{`room "ga*ge" is not a name`}},
		{"two stars", entry("name: a", pw, "rooms: 'r**'"), []string{"not a name"}},
		{"a room that is a filter", entry("name: a", pw, "rooms: '#'"), []string{"not a name"}},
		{"a role with a typo", entry("name: a", pw, "rooms: r", "role: veiwer"), []string{`:4: account a: role "veiwer" is none; it takes peer, viewer, observer or admin`}},
		{"a role in capitals", entry("name: a", pw, "rooms: r", "role: Admin"), []string{"role"}},
		{"a role without rooms", entry("name: a", pw, "role: admin"), []string{"without rooms"}},
		{"a viewer of nobody", entry("name: a", pw, "rooms: r", "role: viewer"), []string{":4: account a is a viewer of nobody"}},
		{"a peer who is no viewer", entry("name: a", pw, "rooms: r", "peer: cam1"), []string{":4: account a has a peer, which only a viewer has"}},
		{"a viewer of a wildcard", entry("name: a", pw, "rooms: r", "role: viewer", "peer: '+'"), []string{"not a name"}},
		{"device a text", entry("name: a", pw, "rooms: r", "device: yes please"), []string{"takes true or false"}},
		{"device a quoted true", entry("name: a", pw, "rooms: r", `device: "true"`), []string{"takes true or false"}},
		{"an empty list of grants", entry("name: a", pw, "grants: []"), []string{"grants is an empty list"}},
		{"grants a mapping", entry("name: a", pw, "grants: {rooms: r}"), []string{"takes a list"}},
		{"a grant without rooms", entry("name: a", pw, "grants: [{role: admin}]"), []string{"grant without rooms"}},
		{"a grant in a grant", entry("name: a", pw, "grants: [{rooms: r, grants: [{rooms: s}]}]"), []string{`"grants"`}},
		{"an empty list of topics", entry("name: a", pw, "topics: []"), []string{"topics is an empty list"}},
		{"a topic that reaches into the rooms", entry("name: a", pw, "topics: ['#']"), []string{"reaches into the rooms"}},
		{"a topic that reaches there by a plus", entry("name: a", pw, "topics: [+/v1/+/to/#]"), []string{"reaches into the rooms"}},
		{"a topic that reaches there by a plus and the rest", entry("name: a", pw, "topics: [+/#]"), []string{"reaches into the rooms"}},
		{"a topic that is as long as theirs begin", entry("name: a", pw, "topics: [+/+/+]"), []string{"reaches into the rooms"}},
		{"a topic at the root", entry("name: a", pw, "topics: [rtc/+]"), []string{"reaches into the rooms"}},
		{"a topic of the rooms", entry("name: a", pw, "topics: [publish: rtc/v1/r/to/a/b]"), []string{"reaches into the rooms"}},
		{"a topic of the server", entry("name: a", pw, "topics: [$SYS/#]"), []string{"begins with $"}},
		{"a shared topic", entry("name: a", pw, "topics: [$share/g/rtc/v1/#]"), []string{"begins with $"}},
		{"a topic with a wildcard in a word", entry("name: a", pw, "topics: [home/a+]"), []string{"wildcard in a wrong place"}},
		{"a topic that goes on after #", entry("name: a", pw, "topics: [home/#/a]"), []string{"wildcard in a wrong place"}},
		{"a deep topic", entry("name: a", pw, "topics: [a/b/c/d/e/f/g/h/i]"), []string{"8 levels"}},
		{"an unknown verb for a topic", entry("name: a", pw, "topics: [{read: home}]"), []string{`"read"`}},
		{"many mistakes", entry("name: a b", "password: x", "rooms: []", "role: x", "device: 1") + entry("nmae: b"),
			[]string{":1:", ":2:", ":3:", ":4:", ":5:", ":6:", `"nmae"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(Config{Users: file(t, "users.yaml", test.content)})
			if err == nil {
				t.Fatal("the file was taken")
			}
			noSecrets(t, err.Error())
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("it does not say %q:\n%v", part, err)
				}
			}
			for line := range strings.Lines(err.Error()) {
				if !strings.Contains(line, "users.yaml") {
					t.Errorf("a mistake does not name the file: %s", line)
				}
			}
		})
	}
}

func TestUsersFileSaysWhoMayDoWhat(t *testing.T) {
	users := file(t, "users.yaml", `
# a camera
- name: cam1
  password: `+cheap(password)+`
  rooms: garage
  device: true
  topics: home/cam1/#
- name: "007"
  password: `+cheap(password)+`
  grants:
    - {rooms: [garage, yard-*], role: viewer, peer: cam1}
    - {rooms: "*", role: observer}
  topics:
    - publish: alarms/+
    - subscribe: rtcp
    - subscribe: +/+ # too short to reach into the rooms
`)
	a := newAuth(t, Config{Users: users})
	cam := a.lets(byName("cam1", password))
	want := topics.Identity{Name: "cam1", Device: true, Grants: []topics.Grant{{Room: "garage", Role: topics.Peer}},
		Publish: []string{"home/cam1/#"}, Subscribe: []string{"home/cam1/#"}, Source: byPassword, Stamp: cam.Stamp}
	if fmt.Sprint(cam) != fmt.Sprint(want) || cam.Stamp == "" {
		t.Errorf("got %+v\nwant %+v", cam, want)
	}
	agent := a.lets(byName("007", password))
	want = topics.Identity{Name: "007", Grants: []topics.Grant{
		{Room: "garage", Role: topics.Viewer, Of: "cam1"}, {Room: "yard-*", Role: topics.Viewer, Of: "cam1"}, {Room: "*", Role: topics.Observer},
	}, Publish: []string{"alarms/+"}, Subscribe: []string{"rtcp", "+/+"}, Source: byPassword, Stamp: agent.Stamp}
	if fmt.Sprint(agent) != fmt.Sprint(want) {
		t.Errorf("got %+v\nwant %+v", agent, want)
	}
	if cam.Stamp == agent.Stamp {
		t.Error("two accounts have the same stamp")
	}
}

func TestSecretFileThatAllMayReadIsWarnedOf(t *testing.T) {
	path := file(t, "users.yaml", account("cam1"))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := newAuth(t, Config{Users: path}).out.String(); !strings.Contains(out, "chmod") || !strings.Contains(out, path) {
		t.Errorf("no warning: %s", out)
	}
}

func TestSetUserKeepsCommentsAndOrder(t *testing.T) {
	path := file(t, "users.yaml", `# who may log in

# the wall
- rooms: garage # its only one
  name: wall
  role: viewer
  peer: cam1
  password: `+cheap("old")+` # set in March
# the camera
- name: cam1
  password: `+cheap("old")+`
  rooms: [garage]
`)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	hashed := cheap(password)
	for _, change := range []Account{
		{Name: "wall", Password: hashed},
		{Name: "cam2", Password: hashed, Device: true, Grants: []topics.Grant{{Room: "yard", Role: topics.Peer}, {Room: "garage", Role: topics.Peer}}},
		{Name: "cam1", Grants: []topics.Grant{{Room: "garage", Role: topics.Peer}, {Room: "yard", Role: topics.Viewer, Of: "cam2"}}, Publish: []string{"home/cam1"}},
	} {
		if err := SetUser(path, change); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := string(data)
	at := 0
	for _, part := range []string{"# who may", "# the wall", "rooms: garage # its only one", "name: wall", hashed + " # set in March", "# the camera", "name: cam1", "grants:", "name: cam2", "rooms: [yard, garage]"} {
		i := strings.Index(got[at:], part)
		if i < 0 {
			t.Fatalf("%q is missing, or in another place, in:\n%s", part, got)
		}
		at += i
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	a := newAuth(t, Config{Users: path})
	if id := a.lets(byName("wall", password)); id.Grants[0].Role != topics.Viewer {
		t.Errorf("wall is %+v", id)
	}
	if id := a.lets(byName("cam2", password)); !id.Device || len(id.Grants) != 2 {
		t.Errorf("cam2 is %+v", id)
	}
	if id := a.lets(byName("cam1", "old")); len(id.Grants) != 2 || id.Grants[1].Of != "cam2" || len(id.Publish) != 1 || len(id.Subscribe) != 0 {
		t.Errorf("cam1 is %+v", id)
	}
}

func TestSetUserMakesAFileAndFollowsLinks(t *testing.T) {
	folder := t.TempDir()
	real, link := filepath.Join(folder, "real.yaml"), filepath.Join(folder, "users.yaml")
	cam := Account{Name: "cam1", Password: cheap(password), Grants: []topics.Grant{{Room: "garage", Role: topics.Peer}}}
	if err := SetUser(real, cam); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	cam.Name = "cam2"
	if err := SetUser(link, cam); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	a := newAuth(t, Config{Users: real})
	a.lets(byName("cam1", password))
	a.lets(byName("cam2", password))
	for name, content := range map[string]string{"empty": "", "comment": "# nobody yet\n", "list": "[]\n"} {
		path := file(t, name, content)
		if err := SetUser(path, cam); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		newAuth(t, Config{Users: path}).lets(byName("cam2", password))
	}
}

func TestSetUserLeavesABrokenFileAlone(t *testing.T) {
	broken := account("cam1") + "  colour: red\n"
	path := file(t, "users.yaml", broken)
	good := Account{Name: "cam2", Password: cheap(password), Grants: []topics.Grant{{Room: "r", Role: topics.Peer}}}
	for _, a := range []Account{good, {Name: "a b"}} {
		if err := SetUser(path, a); err == nil {
			t.Error("a broken file was changed")
		}
	}
	whole := file(t, "users.yaml", account("cam1"))
	for _, a := range []Account{
		{Name: "cam3", Password: "plain " + planted, Grants: good.Grants},
		{Name: "cam3", Password: good.Password},
		{Name: "cam3", Password: good.Password, Grants: []topics.Grant{{Room: "r", Role: topics.Viewer}}},
	} {
		err := SetUser(whole, a)
		if err == nil {
			t.Errorf("%+v was taken", a)
			continue
		}
		noSecrets(t, err.Error())
	}
	for _, path := range []string{path, whole} {
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) != 1 {
			t.Errorf("the folder has %v, %v", entries, err)
		}
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != broken {
		t.Errorf("the file is %q, %v", data, err)
	}
}

func TestMistakesOfOtherSettingsAreReportedTogether(t *testing.T) {
	short := file(t, "short", "too short "+planted[:4])
	r := ring()
	configs := []struct {
		name string
		c    Config
		says []string
	}{
		{"a missing users file", Config{Users: "/nowhere/users.yaml"}, []string{"--users", "/nowhere/users.yaml"}},
		{"a folder for a file", Config{Users: t.TempDir()}, []string{"is a folder"}},
		{"a short secret", Config{JWTKey: short}, []string{"--jwt-key", short, "takes 32 or more", "openssl"}},
		{"a secret of one letter", Config{JWTKey: file(t, "k", strings.Repeat("a", 40))}, []string{"over and over"}},
		{"a certificate for a key", Config{JWTKey: file(t, "k", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, []string{"CERTIFICATE", "PUBLIC KEY"}},
		{"broken PEM", Config{JWTKey: file(t, "k", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")}, []string{"cannot be read"}},
		{"half PEM", Config{JWTKey: file(t, "k", "-----BEGIN PUBLIC KEY-----\nAAAA\n")}, []string{"broken PEM"}},
		{"two keys", Config{JWTKey: file(t, "k", r.rsaPEM+publicPEM(r.ec))}, []string{"more than one", "--jwks"}},
		{"a weak RSA key", Config{JWTKey: file(t, "k", publicPEM(r.weak))}, []string{"1024 bits"}},
		{"a set without keys", Config{JWKS: file(t, "k", `{"keys":[{"kty":"oct","k":"AAAA"}]}`)}, []string{"none of its 1 keys"}},
		{"an issuer without keys", Config{JWTIssuer: "me", JWTAudience: "me"}, []string{"--jwt-issuer", "--jwt-audience"}},
		{"a CA without users", Config{ClientCA: file(t, "ca", "x")}, []string{"--users", "no certificate in it"}},
		{"a CRL without a CA", Config{ClientCRL: "crl.pem"}, []string{"--client-ca"}},
		{"API keys without a key to sign", Config{APIKeys: file(t, "k", "[]")}, []string{"--jwt-key", "empty list"}},
		{"API keys with a public key", Config{JWTKey: file(t, "k", r.rsaPEM), APIKeys: file(t, "a", "- {}")}, []string{"a private key", "has no name"}},
		{"a webhook that is no URL", Config{Webhook: "example.com/" + planted}, []string{"--auth-url"}},
		{"a bad root", Config{Root: "a/b/c"}, []string{"root"}},
		{"all at once", Config{Users: "/nowhere/1", JWTKey: "/nowhere/2", JWKS: "/nowhere/3", ClientCA: "/nowhere/4", ClientCRL: "/nowhere/5", APIKeys: "/nowhere/6", Webhook: "x"},
			[]string{"/nowhere/1", "/nowhere/2", "/nowhere/3", "/nowhere/4", "/nowhere/5", "/nowhere/6", "--auth-url"}},
	}
	for _, test := range configs {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.c)
			if err == nil {
				t.Fatal("it was taken")
			}
			noSecrets(t, err.Error())
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("it does not say %q:\n%v", part, err)
				}
			}
		})
	}
}

func TestNothingConfiguredLetsNobodyIn(t *testing.T) {
	a := newAuth(t, Config{})
	if a.Configured() {
		t.Error("it says that it is configured")
	}
	a.refuses(topics.Credentials{}, topics.Unauthorized, "missing")
	a.refuses(topics.Credentials{Name: "cam1", Username: "cam1"}, topics.Unauthorized, "missing")
	a.refuses(byName("cam1", password), topics.Unauthorized, "name or password wrong")
	a.refuses(topics.Credentials{Token: "x"}, topics.Unauthorized, "tokens are not taken here")
	if _, _, err := a.MintToken(context.Background(), topics.Credentials{Token: "x"}, Claims{}); err == nil {
		t.Error("a token was made")
	}
}
