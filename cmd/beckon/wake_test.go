package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestOfferToASleepingCameraCallsTheWebhookAndIsDeliveredWhenItWakes(t *testing.T) {
	calls := make(chan wakeCall, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var call wakeCall
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil || r.Method != http.MethodPost {
			t.Errorf("%s %v", r.Method, err)
		}
		calls <- call
	}))
	defer hook.Close()
	users := usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd})
	s := startSite(t, "--users="+users, "--wake-url="+hook.URL)
	login := func(at entrance, name, password string) *caller {
		c, err := s.login(t, at, name, password)
		if err != nil {
			t.Fatal(err)
		}
		c.join("garage")
		return c
	}
	cam := login(mqtt3TCP, "cam1", camera1)
	alice := login(jsonWS, "alice", alicePwd)
	alice.sees("cam1")
	cam.line.leave()
	alice.until("that cam1 sleeps", func(e event) bool { return e.from == "cam1" && strings.Contains(e.text, `"online":false`) })
	offer := `{"type":"offer","session":"k3","sdp":""}`
	if fate := alice.send("cam1", offer); fate != 0 {
		t.Errorf("the offer was answered with %#x", fate)
	}
	select {
	case got := <-calls:
		if want := (wakeCall{"garage", "cam1", "alice", "k3"}); got != want {
			t.Errorf("the webhook got %+v, want %+v", got, want)
		}
	case <-time.After(atMost):
		t.Fatal("the webhook was not called")
	}
	awake := login(mqtt5TCP, "cam1", camera1)
	awake.until("the offer", func(e event) bool { return e.from == "alice" && e.text == offer })
}

func TestWakeURLMustBeOne(t *testing.T) {
	for _, bad := range []string{"gateway", "ftp://gateway", "http://", ":"} {
		if err := checkWakeURL(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
