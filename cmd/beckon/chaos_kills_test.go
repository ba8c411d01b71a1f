package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

// The server is killed again and again while offers are on their way. Each of them
// was delivered, or its sender was told, by words or by a connection that ended
// before the answer.
func TestChaosFiftyKills(t *testing.T) {
	t.Parallel()
	kills := 5
	if *chaos != 0 {
		kills = 50 // go test ./cmd/beckon -race -run ChaosFiftyKills -v -chaos 1s
	}
	p := startMortal(t, "--dev")
	tr := trialAt(t, p.site)
	tr.ledger.name = fmt.Sprintf("%d kills", kills)
	for i, at := range []entrance{mqtt3TCP, mqtt5TCP, jsonWS, mqtt3WS, mqtt5WS, jsonWS, mqtt3TCP, mqtt5TCP} {
		s := tr.add(tr.near, fmt.Sprintf("peer%d", i), at)
		s.kind, s.pace = "offer", 3*time.Millisecond
	}
	tr.enter()
	for range kills {
		tr.flow(len(tr.peers))
		tr.ledger.killed(time.Now())
		p.kill()
		p.start(t)
	}
	tr.flow(len(tr.peers))
	summary := new(chart)
	tr.settle(summary)
	t.Logf("offers in flight:\n%s", summary)
}

// flow waits until every peer is back, and some messages of each have arrived.
func (tr *trial) flow(peers int) {
	tr.t.Helper()
	before, some := tr.ledger.deliveries(), 1+rand.IntN(20)
	eventually(tr.t, "messages of everyone", func() bool {
		now := tr.ledger.deliveries()
		n := 0
		for from, count := range now {
			if count >= before[from]+some {
				n++
			}
		}
		return n == peers
	})
}

// After a restart the rooms list who is there, and nobody else.
func TestChaosNoGhostsAfterAKill(t *testing.T) {
	t.Parallel()
	p := startMortal(t, "--dev")
	tr := trialAt(t, p.site)
	for i, at := range mainEntrances {
		tr.add(tr.near, fmt.Sprintf("peer%d", i), at)
	}
	ghosts := &trial{t: t, ledger: newLedger("", 0, 0), near: p.site}
	for i, at := range mainEntrances {
		ghosts.add(p.site, fmt.Sprintf("ghost%d", i), at).to = []string{}
	}
	ghosts.enter()
	tr.enter()
	there := func(s *survivor, ghost bool) bool {
		sees := s.sees()
		delete(sees, s.name)
		want := len(tr.peers) - 1
		if ghost {
			want += len(ghosts.peers)
		}
		return len(sees) == want && sees["ghost0"] == ghost
	}
	for _, s := range tr.peers {
		eventually(t, "everyone, in the eyes of "+s.name, func() bool { return there(s, true) })
	}
	tr.ledger.killed(time.Now())
	p.kill()
	for _, s := range ghosts.peers {
		s.stop()
	}
	p.start(t)
	for _, s := range tr.peers {
		eventually(t, "the survivors alone, in the eyes of "+s.name, func() bool { return there(s, false) })
	}
	watcher := tr.add(tr.near, "watcher", jsonWS)
	watcher.to = []string{}
	watcher.start(t)
	<-watcher.here
	watcher.hasAll()
	eventually(t, "the survivors, as a newcomer sees them", func() bool { return len(watcher.sees()) == len(mainEntrances) })
	for name := range watcher.sees() {
		if strings.HasPrefix(name, "ghost") {
			t.Errorf("%s is listed, and is not there", name)
		}
	}
	tr.settle(new(chart))
}

// What was written to the file of accounts just before a kill counts after it.
func TestChaosAccountsSurviveAKill(t *testing.T) {
	t.Parallel()
	users := usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd})
	p := startMortal(t, "--users="+users)
	rounds := 1
	if *chaos != 0 {
		rounds = 5
	}
	for round := range rounds {
		alice, camera := p.member(t, jsonWS, "alice", alicePwd), p.member(t, mqtt5TCP, "cam1", camera1)
		late := fmt.Sprintf("late%d", round)
		grants := []topics.Grant{{Room: "garage", Role: topics.Peer}}
		if err := auth.SetUser(users, auth.Account{Name: late, Password: auth.HashPassword("hunter2 of " + late), Grants: grants}); err != nil {
			t.Fatal(err)
		}
		full, err := os.ReadFile(users)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, users, without(t, string(full), "cam1"))
		p.kill()
		alice.isEndedAtAll()
		camera.isEndedAtAll()
		p.start(t)
		for _, at := range mainEntrances {
			if c, err := p.login(t, at, "cam1", camera1); err == nil && (at.protocol != "JSON" || c.line.join("garage") == nil) {
				t.Errorf("the revoked cam1 is let in by %v", at)
			}
			p.member(t, at, late, "hunter2 of "+late).leave()
			p.member(t, at, "alice", alicePwd).leave()
		}
		replace(t, users, string(full))
		eventually(t, "the account to be back", func() bool {
			c, err := p.login(t, mqtt5TCP, "cam1", camera1)
			if err == nil {
				c.leave()
			}
			return err == nil
		})
	}
}

// isEndedAtAll waits for the end of the connection, whatever it is.
func (c *caller) isEndedAtAll() {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(atMost):
		c.t.Fatalf("%s (%v) does not notice that the server is gone", c.name, c.at)
	}
	c.cut()
}

// without takes an account out of the text of a file of accounts.
func without(t testing.TB, text, name string) string {
	t.Helper()
	accounts := strings.Split("\n"+text, "\n- ")
	kept := accounts[:1]
	for _, a := range accounts[1:] {
		if !strings.HasPrefix(a, "name: "+name+"\n") {
			kept = append(kept, a)
		}
	}
	if len(kept) != len(accounts)-1 {
		t.Fatalf("%s is not one of the %d accounts", name, len(accounts)-1)
	}
	return strings.TrimPrefix(strings.Join(kept, "\n- "), "\n")
}
