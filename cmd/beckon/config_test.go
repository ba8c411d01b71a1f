package main

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// flagsOf lists the flags of serve.
func flagsOf(t *testing.T) []*kong.Flag {
	t.Helper()
	parser, err := newParser(new(commands))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Children {
		if command.Name == "serve" {
			return command.Flags
		}
	}
	t.Fatal("no command serve")
	return nil
}

// example is a value of a setting that is not its default, as it is written,
// and as it is kept.
var example = map[string]struct {
	text string
	want any
}{
	"dev":                               {"true", true},
	"listen":                            {"127.0.0.1:5", []string{"127.0.0.1:5"}},
	"tls-cert":                          {"a.pem", "a.pem"},
	"tls-key":                           {"b.pem", "b.pem"},
	"acme":                              {"cam.example", []string{"cam.example"}},
	"acme-cache":                        {"certs", "certs"},
	"tls-self-signed":                   {"true", true},
	"tls-only":                          {"true", true},
	"client-ca":                         {"ca.pem", "ca.pem"},
	"client-crl":                        {"crl.pem", "crl.pem"},
	"users":                             {"users.yaml", "users.yaml"},
	"jwt-key":                           {"key", "key"},
	"jwks":                              {"https://id.example/keys", "https://id.example/keys"},
	"jwt-issuer":                        {"https://id.example", "https://id.example"},
	"jwt-audience":                      {"cameras", "cameras"},
	"auth-url":                          {"https://shop.example/login", "https://shop.example/login"},
	"api-key":                           {"keys.yaml", "keys.yaml"},
	"ice-server":                        {"stun:a.example", []string{"stun:a.example"}},
	"turn-secret":                       {"secret", "secret"},
	"turn-listen":                       {"192.0.2.7:3478", []string{"192.0.2.7:3478"}},
	"turn-public-ip":                    {"192.0.2.7", []string{"192.0.2.7"}},
	"turn-allow-peer":                   {"10.0.0.0/8", []string{"10.0.0.0/8"}},
	"turn-ttl":                          {"5m", 5 * time.Minute},
	"limit-logins":                      {"7", 7},
	"origin":                            {"https://app.example", []string{"https://app.example"}},
	"trusted-proxy":                     {"10.0.0.0/8", []string{"10.0.0.0/8"}},
	"root":                              {"acme/rtc", "acme/rtc"},
	"grace":                             {"7s", 7 * time.Second},
	"resume":                            {"40s", 40 * time.Second},
	"keep-alive-min":                    {"5s", 5 * time.Second},
	"keep-alive-max":                    {"1m", time.Minute},
	"drain":                             {"1m", time.Minute},
	"whip-strict":                       {"true", true},
	"log-level":                         {"warn", "warn"},
	"log-format":                        {"json", "json"},
	"limit-message":                     {"3KiB", size(3072)},
	"limit-queue":                       {"2MiB", size(2 << 20)},
	"limit-queues":                      {"3MiB", size(3 << 20)},
	"limit-unauthenticated":             {"7", 7},
	"limit-unauthenticated-per-address": {"8", 8},
	"limit-connects":                    {"9", 9},
	"limit-connects-per-address":        {"8", 8},
	"limit-connects-per-identity":       {"7", 7},
	"limit-rate":                        {"9", 9},
	"limit-burst":                       {"9", 9},
	"limit-bytes":                       {"3MiB", size(3 << 20)},
	"limit-joins":                       {"9", 9},
	"limit-held":                        {"9", 9},
	"hold":                              {"9s", 9 * time.Second},
	"wake-url":                          {"https://gateway.example/wake", "https://gateway.example/wake"},
	"limit-sessions":                    {"9", 9},
	"limit-peers":                       {"10", 10},
	"limit-rooms":                       {"0", 0},
}

func TestEverySettingIsAFlagAVariableAndAKeyOfTheFile(t *testing.T) {
	for _, flag := range flagsOf(t) {
		if flag.Name == "config" {
			continue
		}
		t.Run(flag.Name, func(t *testing.T) {
			e, ok := example[flag.Name]
			if !ok {
				t.Fatal("no example of this setting in the test")
			}
			variable := "BECKON_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
			if !slices.Equal(flag.Envs, []string{variable}) {
				t.Fatalf("variables %v, want %s", flag.Envs, variable)
			}
			if flag.Help == "" {
				t.Error("no help")
			}
			want := func(how string, c *commands) {
				t.Helper()
				if c.Serve.file != nil && len(c.Serve.file.wrong) > 0 {
					t.Error(c.Serve.file.wrong)
				}
				if got := settingOf(t, c, flag.Name); !reflect.DeepEqual(got, e.want) {
					t.Errorf("%s: %v, want %v", how, got, e.want)
				}
			}
			file := writeFile(t, "beckon.yaml", flag.Name+": "+e.text+"\n")
			want("flag", parse(t, "serve", "--"+flag.Name+"="+e.text))
			want("key of the file", parse(t, "serve", "--config", file))

			t.Setenv("BECKON_CONFIG", writeFile(t, "other.yaml", flag.Name+": "+other(flag)+"\n"))
			want("flag before the file", parse(t, "serve", "--"+flag.Name+"="+e.text))
			t.Setenv(variable, e.text)
			want("variable before the file", parse(t, "serve"))
			t.Setenv(variable, other(flag))
			want("flag before the variable", parse(t, "serve", "--"+flag.Name+"="+e.text))
		})
	}
}

// other is a value which is not the example.
func other(flag *kong.Flag) string {
	switch {
	case flag.IsBool():
		return "false"
	case flag.HasDefault:
		return flag.Default
	default:
		return "127.0.0.1:6"
	}
}

// settingOf is the value of a setting by the name of its flag.
func settingOf(t *testing.T, c *commands, name string) any {
	t.Helper()
	v := reflect.ValueOf(c.Serve).FieldByNameFunc(func(field string) bool {
		return strings.EqualFold(field, strings.ReplaceAll(name, "-", ""))
	})
	if v.IsValid() {
		return v.Interface()
	}
	t.Fatalf("no field for %s", name)
	return nil
}

func TestListsInTheFileMayHaveSeveralItems(t *testing.T) {
	file := writeFile(t, "beckon.yaml", `
# a comment
dev: yes
listen: [127.0.0.1:0, "[::1]:0"]
origin: &mine
  - https://a.example
  - https://b.example
`)
	c := parse(t, "serve", "--config="+file)
	if err := c.Serve.check(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Serve.Listen, []string{"127.0.0.1:0", "[::1]:0"}) || len(c.Serve.Origin) != 2 || !c.Serve.Dev {
		t.Errorf("read %+v", c.Serve)
	}
}

func TestListenHasDefaultsThatDevNarrowsToLoopback(t *testing.T) {
	c := parse(t, "serve", "--dev")
	if err := c.Serve.check(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Serve.Listen, []string{"127.0.0.1:1883", "127.0.0.1:8080"}) {
		t.Errorf("with --dev %v", c.Serve.Listen)
	}
	c = parse(t, "serve")
	if err := c.Serve.check(); err == nil {
		t.Error("it serves without credentials")
	}
	if !slices.Equal(c.Serve.Listen, []string{":1883", ":8080"}) {
		t.Errorf("without --dev %v", c.Serve.Listen)
	}
}

func TestBrokenConfigurationDoesNotStartAndSaysWhatIsWrong(t *testing.T) {
	threat.Row(t, 33, 0)
	cert, key := writeCertificate(t)
	_, otherKey := writeCertificate(t)
	garbage := writeFile(t, "garbage.pem", "garbage")
	file := func(text string) []string {
		return []string{"serve", "--dev", "--config=" + writeFile(t, "beckon.yaml", text)}
	}
	dev := func(args ...string) []string { return append([]string{"serve", "--dev"}, args...) }
	refused(t, map[string]broken{
		"no credentials":         {[]string{"serve"}, []string{"no credentials are configured", "--dev"}},
		"unknown flag":           {dev("--lisen=:1"), []string{"unknown flag --lisen", "--listen"}},
		"unknown command":        {[]string{"server"}, []string{"server"}},
		"no command":             {nil, []string{"serve"}},
		"bad flag value":         {dev("--limit-peers=many"), []string{"--limit-peers", "many"}},
		"bad duration":           {dev("--grace=5"), []string{"--grace", "5"}},
		"bad level":              {dev("--log-level=loud"), []string{"--log-level", "debug", "loud"}},
		"bad format":             {dev("--log-format=xml"), []string{"--log-format", "json", "xml"}},
		"bad size":               {dev("--limit-message=64 parsecs"), []string{"--limit-message", "64 parsecs", "64KiB"}},
		"size too big":           {dev("--limit-queue=2GiB"), []string{"--limit-queue", "less than 2GiB"}},
		"negative size":          {dev("--limit-message=-1"), []string{"--limit-message", "-1"}},
		"negative limit":         {dev("--limit-peers=-1"), []string{"--limit-peers is negative"}},
		"negative grace":         {dev("--grace=-1s"), []string{"--grace is negative"}},
		"keep-alive crossed":     {dev("--keep-alive-min=2m", "--keep-alive-max=1m"), []string{"--keep-alive-min 2m", "--keep-alive-max 1m"}},
		"keep-alive too long":    {dev("--keep-alive-max=19h"), []string{"--keep-alive-max 19h", "18h12m15s"}},
		"keep-alive of no limit": {dev("--keep-alive-min=20h", "--keep-alive-max=0"), []string{"--keep-alive-min 20h", "18h12m15s"}},
		"keep-alive of a part":   {dev("--keep-alive-min=1500ms"), []string{"--keep-alive-min 1.5s", "seconds"}},
		"negative keep-alive":    {dev("--keep-alive-min=-1s"), []string{"--keep-alive-min is negative"}},
		"queue under message":    {dev("--limit-queue=1KiB"), []string{"--limit-queue 1KiB", "--limit-message 64KiB"}},
		"queue like message":     {dev("--limit-queue=64KiB"), []string{"--limit-queue 64KiB", "--limit-message 64KiB", "4KiB"}},
		"address without port":   {dev("--listen=127.0.0.1"), []string{`"127.0.0.1"`, "host:port"}},
		"port too high":          {dev("--listen=127.0.0.1:65536"), []string{"127.0.0.1:65536"}},
		"address twice":          {dev("--listen=127.0.0.1:5", "--listen=127.0.0.1:5"), []string{"given twice"}},
		"dev for all":            {dev("--listen=:1883"), []string{"--listen :1883 with --dev", "127.0.0.1:1883"}},
		"dev for the network":    {dev("--listen=192.0.2.1:1883"), []string{"--listen 192.0.2.1:1883 with --dev"}},
		"dev by name":            {dev("--listen=cam.example:1883"), []string{"--listen cam.example:1883 with --dev"}},
		"certificate, no key":    {dev("--tls-cert=" + cert), []string{"--tls-cert", "needs --tls-key"}},
		"key, no certificate":    {dev("--tls-key=" + key), []string{"--tls-key", "needs --tls-cert"}},
		"certificate not there":  {dev("--tls-cert=/none.pem", "--tls-key=/none.key"), []string{"--tls-cert: open /none.pem", "--tls-key: open /none.key"}},
		"not a pair":             {dev("--tls-cert="+cert, "--tls-key="+otherKey), []string{"do not make a pair"}},
		"not PEM":                {dev("--tls-cert="+garbage, "--tls-key="+key), []string{"do not make a pair", "PEM"}},
		"root":                   {dev("--root=#"), []string{"--root", `"#"`}},
		"root too deep":          {dev("--root=a/b/c"), []string{"--root", "3 levels"}},
		"origin wildcard":        {dev("--origin=*"), []string{"--origin", "no wildcard"}},
		"origin with a path":     {dev("--origin=https://a.example/x"), []string{"--origin", "a.example/x"}},
		"proxy by name":          {dev("--trusted-proxy=lb.example"), []string{`--trusted-proxy "lb.example"`, "10.0.0.0/8"}},
		"proxy anywhere":         {dev("--trusted-proxy=0.0.0.0/0", "--trusted-proxy=::/0"), []string{"0.0.0.0/0 is everybody", "::/0 is everybody"}},
		"no file":                {dev("--config=/none.yaml"), []string{"--config", "/none.yaml"}},
		"file is a folder":       {dev("--config=" + t.TempDir()), []string{"is a directory"}},
		"file, unknown key":      {file("dev: true\nlimit_peers: 5\n"), []string{"beckon.yaml:2:", `"limit_peers" is not a setting`, "limit-peers"}},
		"file, plural key":       {file("origins: x\n"), []string{"did you mean origin?"}},
		"file, key twice":        {file("root: a\n\nroot: b\n"), []string{"beckon.yaml:3:", "root is given twice", "line 1"}},
		"file, wrong type":       {file("limit-peers: many\n"), []string{"beckon.yaml:1:", "limit-peers", "many"}},
		"file, list for one":     {file("root: [a, b]\n"), []string{"beckon.yaml:1:", "root takes one value"}},
		"file, map for a list":   {file("listen: {a: b}\n"), []string{"beckon.yaml:1:", "listen"}},
		"file, empty list":       {file("listen: []\n"), []string{"beckon.yaml:1:", "listen has no value"}},
		"file, list of lists":    {file("listen:\n  - [a]\n"), []string{"beckon.yaml:2:", "listen"}},
		"file, null":             {file("root:\n"), []string{"beckon.yaml:1:", "root has no value"}},
		"file, bad choice":       {file("log-level: loud\n"), []string{"beckon.yaml:1:", "log-level", "loud", "debug"}},
		"file, bad size":         {file("limit-message: 1 KB\n"), []string{"beckon.yaml:1:", "limit-message", "1 KB"}},
		"file, bad bool":         {file("dev: maybe\n"), []string{"beckon.yaml:1:", "dev", "maybe"}},
		"file, not YAML":         {file("root: \"a\nb: c\n"), []string{"beckon.yaml", "line"}},
		"file, a list":           {file("- root\n"), []string{"beckon.yaml:1:"}},
		"file, two documents":    {file("root: a\n---\nroot: b\n"), []string{"more than one document"}},
		"file, config in itself": {file("config: other.yaml\n"), []string{"beckon.yaml:1:", "config"}},
		"file, help":             {file("help: true\n"), []string{"beckon.yaml:1:", "help"}},
		"all at once": {
			append(file("lisen: x\nlimit-rooms: -3\nroot: '#'\ngrace: soon\n"), "--listen=:5", "--tls-cert=x", "--origin=null"),
			[]string{"beckon.yaml:1:", "limit-rooms is negative", "--root", "beckon.yaml:4: grace", "--listen :5", "--tls-key", "--origin"},
		},
	})
}

// broken is a command line that must not start, and words of what it is told.
type broken struct {
	args  []string
	words []string
}

// refused runs each, and demands a word on everything that is wrong with it.
func refused(t *testing.T, table map[string]broken) {
	for name, c := range table {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(c.args, &stdout, &stderr); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			for _, w := range c.words {
				if !strings.Contains(stderr.String(), w) {
					t.Errorf("%q is missing in:\n%s", w, stderr.String())
				}
			}
			if strings.Contains(stderr.String(), "ready") {
				t.Error("it started")
			}
		})
	}
}

func TestBrokenVariableIsNamed(t *testing.T) {
	t.Setenv("BECKON_LIMIT_PEERS", "many")
	var stderr bytes.Buffer
	if code := run([]string{"serve", "--dev"}, &stderr, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "BECKON_LIMIT_PEERS") {
		t.Errorf("exit code %d:\n%s", code, stderr.String())
	}
}

func TestSizesAreBytesOrBinaryUnits(t *testing.T) {
	for text, want := range map[string]size{
		"0": 0, "65536": 65536, "64KiB": 65536, "64 KiB": 65536, "1MiB": 1 << 20, "1GiB": 1 << 30, "100B": 100,
	} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v, want %d", text, s, err, want)
		}
		var again size
		if err := again.UnmarshalText([]byte(want.String())); err != nil || again != want {
			t.Errorf("%d is written %q and read %d, %v", want, want, again, err)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1.5MiB", "64KB", "64k", "1e3", "2GiB", "99999999999999999999", "1MiBB", "0x10", "+5"} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, s)
		}
	}
}

func TestHelpAndVersionExitWith0(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"version"}} {
		var stdout, stderr bytes.Buffer
		if code := run(args, &stdout, &stderr); code != exitOK || stdout.Len() == 0 || stderr.Len() != 0 {
			t.Errorf("%v: exit code %d, %d bytes of output\n%s", args, code, stdout.Len(), stderr.String())
		}
	}
}

func FuzzConfigFile(f *testing.F) {
	f.Add([]byte("dev: true\nlisten: [a, b]\n"))
	f.Add([]byte("a: &a [*a]\n<<: *a\n? [x]\n: y\n"))
	f.Add([]byte("root: !!binary x\n"))
	path := f.TempDir() + "/beckon.yaml"
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		parser, err := newParser(new(commands))
		if err != nil {
			t.Fatal(err)
		}
		parser.Parse([]string{"serve", "--config", path})
	})
}

func TestWhoResumesHasNoLessTimeThanWhoDoesNot(t *testing.T) {
	for _, c := range []struct{ grace, resume, want time.Duration }{
		{5 * time.Second, 30 * time.Second, 30 * time.Second},
		{time.Minute, 30 * time.Second, time.Minute},
		{5 * time.Second, 0, 5 * time.Second},
		{0, 0, -1},
	} {
		var s serve
		s.Grace, s.Resume = c.grace, c.resume
		if got := s.resumeWithin(); got != c.want {
			t.Errorf("with --grace %v and --resume %v it has %v, want %v", c.grace, c.resume, got, c.want)
		}
	}
}
