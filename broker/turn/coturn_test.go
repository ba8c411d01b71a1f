package turn

import (
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/broker/turn/coturn"
	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestCoturnTakesTheCredentialsUntilTheyEnd(t *testing.T) {
	threat.Row(t, 26, 0)
	at := coturn.Start(t, secret)
	now := time.Now()
	servers, err := New(Config{URLs: []string{"turn:" + at}, Secret: []byte(secret), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		user, credential := login(servers, "alice")
		alice := dial(t, network, at, user, credential)
		if err := alice.allocate(t); err != nil {
			t.Fatalf("coturn refuses over %s: %v", network, err)
		}
		user, credential = login(servers, "bob")
		bob := dial(t, network, at, user, credential)
		if err := bob.allocate(t); err != nil {
			t.Fatal(err)
		}
		if err := bob.CreatePermission(alice.relay.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		hears(t, alice, bob, "hello")
	}
	user, credential := login(servers, "alice")
	now = now.Add(-time.Hour)
	old, _ := servers.ICEServers(topics.Identity{Name: "alice"})
	for name, c := range map[string][2]string{
		"ended":          {old[0].Username, old[0].Credential},
		"a later end":    {username("alice", time.Now().Add(time.Hour)), credential},
		"another name":   {strings.Replace(user, "alice", "mallory", 1), credential},
		"another secret": {user, password([]byte("another secret of sixteen"), user)},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if err := dial(t, network, at, c[0], c[1]).allocate(t); err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("coturn with credentials that are %s, over %s: %v", name, network, err)
			}
		}
	}
}
