package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestWhoIsRefusedIsLoggedAtEveryDoorWithoutWhatItShowed(t *testing.T) {
	t.Parallel()
	threat.Row(t, 24, threat.TCP|threat.JSON|threat.HTTP)
	users := usersFile(t, map[string]string{"alice": alicePwd})
	s := startSite(t, "--users="+users, "--jwt-key="+writeFile(t, "jwt.key", secret), "--limit-logins=0", "--trusted-proxy=127.0.0.1", "--log-level=info")
	const wrong = "a hunter2 that is wrong"
	door := 0
	asks := func(method, path, name string) {
		t.Helper()
		door++
		r, err := http.NewRequest(method, s.URL+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", door))
		r.Header.Set("Content-Type", "application/json")
		if name == "" {
			r.Header.Set("Authorization", "Bearer "+wrong)
		} else {
			r.SetBasicAuth(name, wrong)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s %s: %s", method, path, answer.Status)
		}
	}
	defer http.DefaultClient.CloseIdleConnections()
	asks("GET", "/api/v1/rooms", "alice")
	asks("POST", "/api/v1/rooms/garage/peers/alice/messages", "alice")
	asks("GET", "/api/v1/rooms/garage/peers/alice/events", "alice")
	asks("POST", "/whep/garage/cam1", wrong) // typed in the wrong place
	asks("POST", "/whip/garage/cam1", "")
	for i, via := range []string{"http", "http", "http", "whip", "whip"} {
		name := "name=alice"
		switch {
		case i == 3:
			name = "name=invalid"
		case i == 4:
			name = `name=""`
		}
		s.awaitLog(t, "login refused", "via="+via, fmt.Sprintf("remote=198.51.100.%d ", i+1), name, "code=401", "why=")
	}
	for _, at := range []entrance{mqtt3TCP, mqtt5TCP} {
		if _, err := s.login(t, at, "alice", wrong); err == nil {
			t.Errorf("%v takes a wrong password", at)
		}
	}
	s.awaitLog(t, "login refused", "via=mqtt", "remote=127.0.0.1 ", "name=alice", "code=401")
	if c, err := s.login(t, jsonWS, "alice", wrong); err != nil || c.line.join("garage") == nil {
		t.Errorf("a wrong password joins: %v", err)
	}
	s.awaitLog(t, "login refused", "via=ws", "remote=127.0.0.1 ", "name=alice", "code=401")
	for range 20 {
		_, _ = s.login(t, mqtt3TCP, "alice", wrong)
	}
	log := s.Log.String()
	if n := strings.Count(log, "remote=127.0.0.1"); n > linesOfAddress+1 { // one of the time before, if a minute ends
		t.Errorf("%d lines tell of one address within a minute:\n%s", n, log)
	}
	if strings.Contains(log, marker) {
		t.Errorf("what was shown is in the log:\n%s", log)
	}
}

func TestFloodOfRefusalsDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logs)
		r := newRefusals(slog.New(slog.NewTextHandler(log, nil)))
		refuse := r.of("ws", func(context.Context, topics.Credentials) (topics.Identity, error) {
			return topics.Identity{}, topics.Errorf(topics.Unauthorized, "name or password wrong")
		})
		try := func(from string) {
			_, _ = refuse(t.Context(), topics.Credentials{Remote: netip.MustParseAddr(from), Username: "cam1"})
		}
		lines := func() int { return strings.Count(log.String(), "\n") }
		for range 100 {
			try("198.51.100.1")
		}
		if n := lines(); n != linesOfAddress {
			t.Errorf("%d lines for 100 refusals of one address", n)
		}
		try("198.51.100.2")
		if !strings.Contains(log.String(), "remote=198.51.100.2 ") {
			t.Error("the flood of one address hides another")
		}
		if !strings.Contains(log.String(), "left_out=95") {
			t.Errorf("nothing says how many were left out:\n%s", log)
		}
		time.Sleep(time.Minute) // fake time
		before := lines()
		for i := range 3 * mostRefused {
			try(fmt.Sprintf("2001:db8:%x::1", i))
		}
		if n := lines() - before; n > linesAtOnce {
			t.Errorf("%d lines for a flood of addresses", n)
		}
		time.Sleep(3 * time.Minute) // by when addresses are forgotten
		try("198.51.100.3")
		if said := fmt.Sprint("left_out=", 3*mostRefused-(lines()-1-before)); !strings.Contains(log.String(), said) {
			t.Errorf("of a flood of addresses nothing says %s:\n%s", said, log)
		}
		if n := len(r.byAddress); n > mostRefused+1 {
			t.Errorf("%d addresses are counted", n)
		}
	})
}
