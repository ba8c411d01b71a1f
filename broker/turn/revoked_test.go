package turn

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// told starts a server, with Servers that let it know whom they tell credentials.
func told(t *testing.T) (*Server, *Servers, *clock, *diary) {
	t.Helper()
	s, _, now, log := start(t)
	servers, err := New(Config{URLs: s.URLs(), Secret: []byte(secret), Now: now.now, Server: s})
	if err != nil {
		t.Fatal(err)
	}
	return s, servers, now, log
}

func isAlice(name string) bool { return name == "alice" }

func TestCredentialsOfARevokedIdentityAreRefusedAndNewOnesAreNot(t *testing.T) {
	threat.Row(t, 26, 0)
	s, servers, now, _ := told(t)
	user, credential := login(servers, "alice")
	if err := dial(t, "udp", s.at(), user, credential).allocate(t); err != nil {
		t.Fatal(err)
	}
	bob, bobs := login(servers, "bob")
	for range 2 { // the second time for what it was told in the same second
		s.End(isAlice)
		for range 2 {
			if err := dial(t, "udp", s.at(), user, credential).allocate(t); err == nil {
				t.Fatal("they are good for another relay")
			}
		}
		if user, credential = login(servers, "alice"); dial(t, "tcp", s.at(), user, credential).allocate(t) != nil {
			t.Fatal("new ones are refused")
		}
	}
	if err := dial(t, "udp", s.at(), bob, bobs).allocate(t); err != nil {
		t.Errorf("bob's are refused: %v", err)
	}
	now.forward(2 * time.Second)
	if user, credential = login(servers, "alice"); dial(t, "udp", s.at(), user, credential).allocate(t) != nil {
		t.Error("later ones are refused")
	}
}

// What was told, or revoked, while the clock was ahead.
func TestRevokedWhileTheClockIsAheadIsRevokedWhenItIsRightAndNewOnesAreNot(t *testing.T) {
	threat.Row(t, 26, 0)
	const ahead = 10 * 365 * 24 * time.Hour
	for _, when := range []string{"before it is right", "after"} {
		s, servers, now, _ := told(t)
		user, credential := login(servers, "alice")
		now.forward(ahead)
		login(servers, "alice")
		if when != "after" {
			s.End(isAlice)
		}
		now.forward(-ahead)
		if when == "after" {
			s.End(isAlice)
		}
		newUser, newCredential := login(servers, "alice")
		if _, end, err := parseUsername(newUser); err != nil || end.After(now.now().Add(defaultTTL+2*time.Second)) {
			t.Errorf("%s: new ones end %v, it is %v", when, end, now.now())
		}
		if err := dial(t, "udp", s.at(), user, credential).allocate(t); err == nil {
			t.Errorf("%s: revoked ones are good", when)
		}
		if err := dial(t, "udp", s.at(), newUser, newCredential).allocate(t); err != nil {
			t.Errorf("%s: new ones are refused: %v", when, err)
		}
	}
}

func TestARevokedIdentityIsRefusedThoughItHasNoRelay(t *testing.T) {
	for name, end := range map[string]func(*Server){
		"told here": func(s *Server) { s.End(isAlice) },
		"named":     func(s *Server) { s.End(isAlice, "alice") },
	} {
		s, servers, _, _ := told(t)
		if name == "named" { // told by another process that has the secret
			servers.Server = nil
		}
		user, credential := login(servers, "alice")
		end(s)
		if err := dial(t, "udp", s.at(), user, credential).allocate(t); err == nil {
			t.Errorf("%s: a relay is made", name)
		}
	}
}

func TestARelayOfARevokedIdentityIsNotKept(t *testing.T) {
	s, servers, now, _ := told(t)
	user, credential := login(servers, "alice")
	alice := dial(t, "udp", s.at(), user, credential)
	if err := alice.allocate(t); err != nil {
		t.Fatal(err)
	}
	peer := alice.relay.LocalAddr() // relays may be reached, on loopback, too
	now.forward(11 * time.Minute)
	if err := alice.CreatePermission(peer); err != nil {
		t.Fatalf("ended credentials do not keep a relay: %v", err)
	}
	s.ledger.revoke("alice") // as for a relay that was in the making while End ended the others
	for range 2 {
		if err := alice.CreatePermission(peer); err == nil {
			t.Error("the relay is kept")
		}
		now.forward(15 * time.Minute)
	}
}

func TestEndAsksForEveryNameOnce(t *testing.T) {
	s, servers, now, _ := told(t)
	login(servers, "long-ago")
	now.forward(11 * time.Minute)
	joined(t, s, servers, "udp")
	login(servers, "carol")
	asked := make(map[string]int)
	s.End(func(name string) bool { asked[name]++; return false }, "dave", "alice")
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		if asked[name] != 1 {
			t.Errorf("it asked for %s %d times", name, asked[name])
		}
	}
	if len(asked) != 4 || s.Relays() != 2 {
		t.Errorf("it asked for %v; there are %d relays", asked, s.Relays())
	}
}

func TestRevocationsAreForgottenWhenNothingIsLeftOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(10*time.Minute, time.Now)
		before := l.tell("alice", time.Now().Add(10*time.Minute), true)
		l.revoke("alice")
		time.Sleep(70 * time.Minute)
		if l.names(); !l.revoked("alice", before) {
			t.Error("forgotten while there could be a relay")
		}
		time.Sleep(time.Minute)
		if l.names(); len(l.cuts)+len(l.told) != 0 {
			t.Errorf("%v and %v are left", l.cuts, l.told)
		}
		for range 10_000 {
			l.tell(time.Now().String(), time.Now().Add(time.Minute), true)
			time.Sleep(time.Second)
		}
		if len(l.told) > 200 {
			t.Errorf("%d names are kept", len(l.told))
		}
	})
}
