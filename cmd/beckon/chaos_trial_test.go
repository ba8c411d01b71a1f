package main

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"
)

// chaos makes the faults last, for a run by hand:
//
//	go test ./cmd/beckon -race -run Chaos -v -chaos 10m -timeout 30m
var chaos = flag.Duration("chaos", 0, "how long the faults of -run Chaos last, in all; 0: some seconds, as in CI")

// lasting is how long one of the trials sends.
func lasting(short time.Duration) time.Duration { return max(short, *chaos/6) }

// trial is a room in which peers of all doors write to each other while something
// goes wrong between them and the server.
type trial struct {
	t      *testing.T
	ledger *ledger
	near   *site // the server
	far    *site // the same, through the proxy
	proxy  *proxy
	peers  []*survivor
}

const (
	chaosGrace = 2 * time.Second // of the servers
	chaosRoom  = "garage"
	across     = 5 * time.Second // within which a sender hears, across a fault (package threat)
)

func startTrial(t *testing.T, args ...string) *trial {
	t.Helper()
	s := startSite(t, append([]string{"--grace=" + chaosGrace.String(), "--limit-sessions=0", "--log-level=info"}, args...)...)
	return trialAt(t, s)
}

// trialAt is a trial of a server that runs.
func trialAt(t *testing.T, s *site) *trial {
	_, name, _ := strings.Cut(t.Name(), "/")
	if name == "" {
		name = t.Name()
	}
	p := startProxy(t, s.MQTT)
	far := *s.testServer
	far.MQTT = p.listener.Addr().String()
	return &trial{t: t, near: s, far: &site{testServer: &far, trust: s.trust}, proxy: p, ledger: newLedger(strings.ReplaceAll(name, "_", " "), across, chaosGrace)}
}

// add makes a survivor, who writes to all others.
func (tr *trial) add(s *site, name string, doors ...entrance) *survivor {
	peer := &survivor{name: name, site: s, room: chaosRoom, doors: doors, ledger: tr.ledger,
		kind: "msg", pace: 10 * time.Millisecond, patience: 2 * time.Second, away: 200 * time.Millisecond}
	if len(tr.peers)%2 == 1 {
		peer.kind = "offer"
	}
	tr.peers = append(tr.peers, peer)
	return peer
}

// addWhoResume makes two who go on where they were, behind the proxy, with one who
// does not, and one of each kind before it.
func (tr *trial) addWhoResume() {
	tr.add(tr.far, "far0", jsonWS).resumes = true
	tr.add(tr.far, "far1", jsonWSS).resumes = true
	tr.add(tr.far, "far2", mqtt5TLS)
	tr.add(tr.near, "near0", mqtt3TCP)
	tr.add(tr.near, "near1", jsonWS)
}

// addOfEachDoor makes four behind the proxy and two before it.
func (tr *trial) addOfEachDoor() {
	for i, at := range mainEntrances {
		tr.add(tr.far, fmt.Sprintf("far%d", i), at)
	}
	tr.add(tr.near, "near0", mqtt5TCP)
	tr.add(tr.near, "near1", jsonWS)
}

// enter starts the peers, who write when all of them are there.
func (tr *trial) enter() {
	tr.t.Helper()
	begin := make(chan struct{})
	defer close(begin)
	for _, s := range tr.peers {
		if s.to == nil {
			for _, other := range tr.peers {
				if other != s {
					s.to = append(s.to, other.name)
				}
			}
		}
		s.begin = begin
		s.start(tr.t)
	}
	for _, s := range tr.peers {
		select {
		case <-s.here:
		case <-time.After(atMost):
			tr.t.Fatalf("%s does not get in", s.name)
		}
	}
}

// run lets them write for a time, in which do happens again and again.
func (tr *trial) run(d time.Duration, every time.Duration, do func()) {
	end := time.After(d)
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		select {
		case <-end:
			return
		case <-again.C:
			do()
		}
	}
}

// settle ends the fault and the writing, waits for what is on its way, and holds
// the ledger against the promise.
func (tr *trial) settle(c *chart) {
	tr.t.Helper()
	for _, s := range tr.peers {
		s.rest()
	}
	late := time.After(tr.ledger.promise + tr.ledger.hold + atMost)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting && !tr.ledger.settled(); {
		select {
		case <-tick.C:
		case <-late:
			waiting = false // the tally says for what
		}
	}
	tr.proxy.on(clean)
	for _, s := range tr.peers {
		s.hasAll()
	}
	for _, s := range tr.peers {
		s.stop()
	}
	result := tr.ledger.tally()
	c.add(result)
	if result.messages == 0 || result.delivered == 0 {
		tr.t.Errorf("nothing was sent, or nothing arrived: %+v", result)
	}
	for i, wrong := range result.wrong {
		if i == 20 {
			tr.t.Errorf("and %d more", len(result.wrong)-i)
			break
		}
		tr.t.Error(wrong)
	}
}

// count is how often the server has said words.
func (s *site) count(words string) int { return strings.Count(s.Log.String(), words) }
