package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/beckon-rtc/beckon/topics"
)

// TestModelOverSockets does the steps that need no fake time to the whole program,
// over TCP, TLS and WebSocket, and waits for answers instead of quiet. A peer whose
// connection is lost is gone at once, or never.
//
//	go test ./cmd/beckon -run ModelOverSockets -rapid.checks=50
func TestModelOverSocketsEveryMessageHasOneFateAndItsSenderHearsIt(t *testing.T) {
	sequences(t, 5, 30)
	rapid.Check(t, func(rt *rapid.T) {
		house := new(sockets)
		p := &play{T: rt, tb: &bubble{TB: t, rt: rt}, model: newModel(time.Now()), stage: house, patient: true}
		defer p.finish()
		p.held, p.open, p.hold = 3, 2, time.Hour // longer than a run takes
		p.grace = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "grace")
		p.begin(twoWay...)
		p.repeat(p.steps())
	})
}

// sequences sets how many are tried, and of how many steps, unless the command
// says it.
func sequences(t *testing.T, checks, steps int) {
	asked := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { asked[f.Name] = true })
	for name, n := range map[string]int{"rapid.checks": checks, "rapid.steps": steps} {
		if f := flag.Lookup(name); !asked[name] {
			was := f.Value.String()
			_ = f.Value.Set(strconv.Itoa(n))
			t.Cleanup(func() { _ = f.Value.Set(was) })
		}
	}
}

// sockets is the whole program.
type sockets struct {
	play  *play
	site  *site
	asked int
}

func (s *sockets) start(p *play) *site {
	s.play = p
	s.site = startSite(p.tb, fmt.Sprintf("--grace=%v", p.grace), fmt.Sprintf("--hold=%v", p.hold), fmt.Sprintf("--limit-held=%d", p.held), fmt.Sprintf("--limit-sessions=%d", p.open))
	return s.site
}

func (s *sockets) stop() {
	if err := s.site.Stop(); err != nil {
		s.play.Errorf("the server ended with %v", err)
	}
}

// await gives up late and leaves it to the caller to say what was missing.
func (s *sockets) await(is func() bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(atMost / 4); !is(); {
		select {
		case <-tick.C:
		case <-late:
			return
		}
	}
}

// flush asks the server something: the answer comes after all that is on its way.
// An error about an older question was told to a connection that acknowledged
// nothing, and is no news of the play.
func (s *sockets) flush(one *party) {
	room := ""
	for _, r := range roomsOfPlay {
		if one.reads[r] {
			room = r
		}
	}
	if room == "" || one.over {
		return // nothing can come
	}
	s.asked++
	question := fmt.Sprintf("about ice q%d ", s.asked)
	if _, err := one.c.line.send(room, topics.Server, fmt.Sprintf(`{"type":"ice","session":"q%d"}`, s.asked)); err != nil && !strings.Contains(err.Error(), "0x87") {
		s.play.Logf("%s asks: %v", one.id, err)
	}
	s.await(func() bool {
		one.take()
		one.got = slices.DeleteFunc(one.got, func(what string) bool {
			return strings.Contains(what, "about ice q") && !strings.Contains(what, question)
		})
		for i, what := range one.got {
			if strings.Contains(what, `"iceServers"`) || strings.Contains(what, question) {
				one.got = append(one.got[:i:i], one.got[i+1:]...)
				return true
			}
		}
		return false
	})
}

func (s *sockets) cutOff(p *play, one *party) {
	var lost []string
	for _, stay := range p.stays {
		if stay.link == one.link && (p.grace > 0 || one.long) {
			lost = append(lost, fmt.Sprintf(`msg="connection lost" room=%s peer=%s `, stay.room, stay.name))
		}
	}
	before := s.site.Log.String()
	one.c.line.cut()
	s.await(func() bool {
		log := s.site.Log.String()
		for _, line := range lost {
			if strings.Count(log, line) == strings.Count(before, line) {
				return false
			}
		}
		return true
	})
}
