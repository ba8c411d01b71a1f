package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
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
	observer := auth.Account{Name: "otto", Password: auth.HashPassword(camera1), Grants: []topics.Grant{{Room: "garage", Role: topics.Observer}}}
	if err := auth.SetUser(users, observer); err != nil {
		t.Fatal(err)
	}
	s := startSite(t, "--users="+users, "--wake-url="+hook.URL)
	login := func(at entrance, name, password string) *caller {
		c, err := s.login(t, at, name, password)
		if err != nil {
			t.Fatal(err)
		}
		c.join("garage")
		return c
	}
	otto, err := s.login(t, mqtt5TCP, "otto", camera1)
	if err != nil {
		t.Fatal(err)
	}
	subscribe(t, otto, "rtc/v1/garage/wake/+")
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
	told := otto.next("that cam1 is to be woken")
	for _, d := range []*document{openAPIDocument(t), asyncAPIDocument(t)} {
		d.holds("Wake", told.text)
	}
	awake := login(mqtt5TCP, "cam1", camera1)
	awake.until("the offer", func(e event) bool { return e.from == "alice" && e.text == offer })
}

// gateway answers the webhook, without a network.
type gateway func(call wakeCall, r *http.Request) (*http.Response, error)

func (g gateway) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	var call wakeCall
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		return nil, err
	}
	return g(call, r)
}

// silent is what a gateway does that never answers.
func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestSlowWakingOfSomeDoesNotDelayThatOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaker("http://gateway.example/", time.Minute, slog.New(slog.DiscardHandler))
		defer w.close()
		woken := make(chan wakeCall, 1)
		w.client.Transport = gateway(func(call wakeCall, r *http.Request) (*http.Response, error) {
			if call.Peer != "cam9" {
				return silent(r)
			}
			woken <- call
			return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
		})
		for i := range 3 {
			w.wake("garage", fmt.Sprintf("cam%d", i+1), "alice", "k1")
		}
		began := time.Now()
		w.wake("garage", "cam9", "alice", "k9")
		if call := <-woken; call != (wakeCall{"garage", "cam9", "alice", "k9"}) || time.Since(began) != 0 {
			t.Errorf("%+v was called after %v", call, time.Since(began))
		}
	})
}

func TestNobodyIsWokenForWhoDoesNotWaitAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logs)
		const hold, calls = 5 * time.Second, 100
		w := newWaker("http://gateway.example/", hold, slog.New(slog.NewTextHandler(log, nil)))
		defer w.close()
		began := time.Now()
		var posted, late atomic.Int32
		w.client.Transport = gateway(func(_ wakeCall, r *http.Request) (*http.Response, error) {
			posted.Add(1)
			if time.Since(began) > hold {
				late.Add(1)
			}
			return silent(r)
		})
		for i := range calls {
			w.wake("garage", fmt.Sprintf("cam%d", i), "alice", "k1")
		}
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		if posted := int(posted.Load()); late.Load() != 0 || posted == 0 || posted == calls {
			t.Errorf("%d posted, %d of them late", posted, late.Load())
		}
		for i := range 20 { // in another minute, of which the first line says how much there was
			w.wake("garage", "cam1", "alice", fmt.Sprintf("k%d", i))
			time.Sleep(30 * time.Second)
		}
		text := log.String()
		if n := strings.Count(text, "\n"); n > 5+20 || !strings.Contains(text, "left_out=") {
			t.Errorf("%d lines tell of %d calls that failed or were left out:\n%s", n, calls, text)
		}
	})
}

func TestWhoCallsADeviceAgainAndAgainWakesItOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaker("http://gateway.example/", time.Minute, slog.New(slog.DiscardHandler))
		defer w.close()
		woken := make(map[string]int)
		w.client.Transport = gateway(func(call wakeCall, r *http.Request) (*http.Response, error) {
			w.mu.Lock()
			woken[call.For+" "+call.Session]++
			w.mu.Unlock()
			return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
		})
		for i := range 100 { // ten a second
			w.wake("garage", "cam1", "mallory", fmt.Sprintf("k%d", i))
			time.Sleep(100 * time.Millisecond)
		}
		w.wake("garage", "cam1", "alice", "k1")
		synctest.Wait()
		if len(woken) != 10+1 || woken["alice k1"] != 1 {
			t.Errorf("in ten seconds it was woken for %v", woken)
		}
		for i := range 3 * mostWoken {
			w.due(wakeCall{Room: "garage", Peer: fmt.Sprint("cam", i), For: "mallory"}, time.Now())
		}
		if n := len(w.lately); n > mostWoken {
			t.Errorf("%d calls are remembered", n)
		}
	})
}

func TestWakeURLMustBeOne(t *testing.T) {
	for _, bad := range []string{"gateway", "ftp://gateway", "http://", ":"} {
		if err := checkWakeURL(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
