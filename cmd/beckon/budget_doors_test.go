package main

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// withLimits are arguments that bring back the limits which tests do without, as
// they are by default.
func withLimits(t *testing.T) []string {
	s := parse(t, "serve", "--dev").Serve
	return []string{
		fmt.Sprintf("--limit-rate=%d", s.LimitRate),
		fmt.Sprintf("--limit-connects-per-identity=%d", s.LimitConnectsPerIdentity),
	}
}

// An identity may open 50 connections at once: what opens none takes nothing of
// that.
func TestRequestsCountAsFramesOfTheirAccountAndNotAsConnections(t *testing.T) {
	s := startSite(t, append(withLimits(t), "--jwt-key="+writeFile(t, "jwt.key", secret))...)
	token := tokenOf(t, "alice", time.Minute)
	alice, err := s.login(t, sseHTTP, "alice", token)
	if err != nil {
		t.Fatal(err)
	}
	alice.join("garage")
	many := func(what string, n, want int, ask func() int) {
		t.Helper()
		for i := range n {
			if got := ask(); got != want {
				t.Fatalf("%s number %d is answered with %d, want %d", what, i+1, got, want)
			}
		}
	}
	many("message", 70, 0, func() int { return alice.send("", `{"type":"msg"}`) })
	status := func(method, url, body string) func() int {
		return func() int {
			answer, _ := request(t, method, s.URL+url, body, "Authorization", "Bearer "+token, "Content-Type", "application/sdp")
			return answer.StatusCode
		}
	}
	many("look-up", 70, http.StatusOK, status("GET", "/api/v1/rooms", ""))
	many("WHEP session with nobody", 70, http.StatusNotFound, status("POST", "/whep/garage/nobody", newPlayer(t).offer(false)))
	for range 2 { // and there is room for connections still
		other, err := s.login(t, jsonWS, "alice", token)
		if err != nil {
			t.Fatal(err)
		}
		other.join("garage")
	}
	look := func() int {
		answer, err := alice.line.(*lineHTTP).do(context.Background(), "GET", "garage/peers", "")
		if err != nil {
			return 0
		}
		defer answer.Body.Close()
		return answer.StatusCode
	}
	statuses := make(chan int, 400)
	together(cap(statuses), func(int) { statuses <- look() })
	refused := 0
	for range cap(statuses) {
		if <-statuses == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Error("look-ups have no limit")
	}
}
