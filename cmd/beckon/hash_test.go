package main

import (
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestServerHasAProcessOfItselfHashPasswords(t *testing.T) {
	threat.Row(t, 29, threat.MQTT)
	s := startSite(t, "--users="+usersFile(t, map[string]string{"cam1": camera1}))
	s.member(t, mqtt3TCP, "cam1", camera1)
	if text := s.Log.String(); strings.Contains(text, "own process") {
		t.Errorf("the server hashed it itself: %s", text)
	}
}
