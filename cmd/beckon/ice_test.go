package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

// iceOf is what a peer is told when it joins.
func iceOf(t testing.TB, s *site, at entrance, name string) (servers []topics.ICEServer, ttl int) {
	t.Helper()
	c := s.connect(t, at, name)
	c.room = "garage"
	if err := c.line.join("garage"); err != nil {
		t.Fatal(err)
	}
	welcome := c.until("its welcome", func(e event) bool { return e.kind == "joined" })
	var hello struct {
		ICEServers []topics.ICEServer `json:"iceServers"`
		TTL        int                `json:"ttl"`
	}
	if err := json.Unmarshal([]byte(welcome.text), &hello); err != nil {
		t.Fatal(err)
	}
	return hello.ICEServers, hello.TTL
}

func TestICEServersAreToldAtEveryDoorWithCredentialsThatEnd(t *testing.T) {
	threat.Row(t, 26, 0)
	s := startSite(t, "--ice-server=stun:stun.example", "--ice-server=turn:turn.example?transport=udp", "--turn-secret="+writeFile(t, "turn", "hunter2 and sixteen bytes\n"), "--turn-ttl=5m")
	for _, at := range mainEntrances {
		servers, ttl := iceOf(t, s, at, "alice")
		if len(servers) != 2 || ttl != 300 || servers[0].URLs[0] != "stun:stun.example" || servers[0].Username != "" ||
			!strings.HasSuffix(servers[1].Username, ":alice") || servers[1].Credential == "" {
			t.Errorf("%v: %+v for %d s", at, servers, ttl)
		}
	}
}

func TestEmbeddedTURNServerIsAmongThem(t *testing.T) {
	s := startSite(t, "--turn-listen=127.0.0.1:0", "--turn-allow-peer=127.0.0.0/8")
	servers, ttl := iceOf(t, s, jsonWS, "alice")
	var urls []string
	for _, server := range servers {
		urls = append(urls, server.URLs...)
		if strings.HasPrefix(server.URLs[0], "turn") && (server.Credential == "" || ttl != 600) {
			t.Errorf("%+v for %d s", server, ttl)
		}
	}
	all := strings.Join(urls, " ")
	for _, want := range []string{"stun:127.0.0.1:", "turn:127.0.0.1:", "?transport=udp", "?transport=tcp"} {
		if !strings.Contains(all, want) || strings.Contains(all, ":0") {
			t.Errorf("%s is not in %s", want, all)
		}
	}
}

// TestBrokenICEServersDoNotStart is row 33 of package threat, for ICE servers.
func TestBrokenICEServersDoNotStart(t *testing.T) {
	dev := func(args ...string) []string {
		return append([]string{"serve", "--dev", "--listen=127.0.0.1:0"}, args...)
	}
	good := "--turn-secret=" + writeFile(t, "turn", "hunter2 and sixteen bytes")
	refused(t, map[string]broken{
		"no scheme":                 {dev("--ice-server=stun.example"), []string{"--ice-server", "stun.example", "stun:"}},
		"a web address":             {dev("--ice-server=https://stun.example"), []string{"--ice-server", "stun:"}},
		"two slashes":               {dev("--ice-server=stun://stun.example"), []string{"no //"}},
		"credentials in it":         {dev("--ice-server=turn:alice:hunter22@turn.example", good), []string{"no user in it"}},
		"transport of STUN":         {dev("--ice-server=stun:stun.example?transport=udp"), []string{"transport"}},
		"twice":                     {dev("--ice-server=stun:a.example", "--ice-server=stun:a.example"), []string{"given twice"}},
		"TURN without a secret":     {dev("--ice-server=turn:turn.example"), []string{"needs the secret"}},
		"secret without TURN":       {dev(good), []string{"no turn: or turns: URL"}},
		"secret not there":          {dev("--ice-server=turn:turn.example", "--turn-secret=/none"), []string{"--turn-secret: open /none"}},
		"secret too short":          {dev("--ice-server=turn:turn.example", "--turn-secret="+writeFile(t, "short", "short")), []string{"--turn-secret", "5 bytes", "16"}},
		"secret of two lines":       {dev("--ice-server=turn:turn.example", "--turn-secret="+writeFile(t, "lines", "a secret that is long\nanother")), []string{"--turn-secret", "line"}},
		"life of a second":          {dev("--turn-ttl=1s"), []string{"1s", "1m to 24h"}},
		"life of none":              {dev("--turn-ttl=0s"), []string{"--turn-ttl"}},
		"life of a year":            {dev("--turn-ttl=8760h"), []string{"1m to 24h"}},
		"listen: no port":           {dev("--turn-listen=127.0.0.1"), []string{`--turn-listen "127.0.0.1"`, "ip:port"}},
		"listen: a name":            {dev("--turn-listen=turn.example:3478"), []string{`--turn-listen "turn.example:3478"`}},
		"listen: twice":             {dev("--turn-listen=127.0.0.1:3478", "--turn-listen=127.0.0.1:3478"), []string{"given twice"}},
		"listen everywhere":         {dev("--turn-listen=:3478"), []string{"--turn-public-ip must say"}},
		"foreign TURN, made-up key": {dev("--turn-listen=127.0.0.1:0", "--ice-server=turn:turn.example"), []string{"--ice-server turn:turn.example needs --turn-secret"}},
		"public IP is a name":       {dev("--turn-listen=127.0.0.1:0", "--turn-public-ip=turn.example"), []string{`--turn-public-ip "turn.example"`}},
		"public IP is every":        {dev("--turn-listen=:0", "--turn-public-ip=0.0.0.0"), []string{`--turn-public-ip "0.0.0.0"`}},
		"public IP alone":           {dev("--turn-public-ip=192.0.2.7"), []string{"--turn-public-ip is for --turn-listen"}},
		"two of a family":           {dev("--turn-listen=127.0.0.1:0", "--turn-public-ip=192.0.2.7", "--turn-public-ip=192.0.2.8"), []string{"--turn-listen", "192.0.2.8"}},
		"bad CIDR":                  {dev("--turn-listen=127.0.0.1:0", "--turn-allow-peer=10.0.0.0"), []string{`--turn-allow-peer "10.0.0.0" is not a network`}},
		"CIDR with a host":          {dev("--turn-listen=127.0.0.1:0", "--turn-allow-peer=10.0.0.7/8"), []string{"10.0.0.7/8", "did you mean 10.0.0.0/8"}},
		"CIDR alone":                {dev("--turn-allow-peer=10.0.0.0/8"), []string{"--turn-allow-peer is for --turn-listen"}},
		"all at once": {
			dev("--ice-server=x", "--turn-secret=/none", "--turn-listen=x", "--turn-public-ip=y", "--turn-allow-peer=z", "--turn-ttl=1s"),
			[]string{"ICE server", "/none", `--turn-listen "x"`, `"y"`, `"z"`, "1m to 24h"},
		},
	})
}
