package whip

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

// crowd opens n sessions with cam at once; cam answers all of them.
func (h *house) crowd(cam *device, n int) (urls []string) {
	h.t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	var failed atomic.Value
	go func() {
		defer close(stopped)
		for {
			select {
			case m := <-cam.got:
				if m.Type != topics.TypeOffer {
					continue
				}
				for _, err := range []error{cam.candidate(m, host1), cam.candidate(m, ""), cam.answer(m, answer)} {
					if err != nil {
						failed.Store(err)
					}
				}
			case <-stop:
				return
			}
		}
	}()
	urls = make([]string, n)
	var all sync.WaitGroup
	for i := range urls {
		all.Go(func() {
			r := h.do("POST", "/whep/garage/"+cam.name, offer)
			if body := text(r); r.StatusCode != 201 || !strings.Contains(body, "a=candidate:"+host1) || !strings.Contains(body, attrEnd) {
				failed.Store(fmt.Errorf("status %d: %s", r.StatusCode, body))
			}
			urls[i] = r.Header.Get("Location")
		})
	}
	all.Wait()
	close(stop)
	<-stopped
	if err := failed.Load(); err != nil {
		h.t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, url := range urls {
		seen[url] = true
	}
	if len(seen) != n || h.Sessions() != n {
		h.t.Fatalf("%d URLs and %d sessions of %d", len(seen), h.Sessions(), n)
	}
	return urls
}

func TestFiveHundredSessionsWithOneDeviceLeaveNothingBehind(t *testing.T) {
	const n = 500
	h := build(t, func(c *Config) { c.Joins = -1 })
	before := runtime.NumGoroutine()
	cam := h.device(trickles)
	for name, end := range map[string]func(urls []string){
		"deleted": func(urls []string) {
			var all sync.WaitGroup
			for _, url := range urls {
				all.Go(func() {
					if r := h.do("DELETE", url, ""); r.StatusCode != 200 {
						t.Errorf("status %d", r.StatusCode)
					}
				})
			}
			all.Wait()
			for range urls {
				for m := <-cam.got; m.Type != topics.TypeBye; m = <-cam.got {
				}
			}
		},
		"the device says bye": func(urls []string) {
			peers, sessions := h.guests(cam, n)
			for i, peer := range peers {
				m := topics.Delivery{Address: topics.Address{Src: peer}, Message: topics.Message{Session: sessions[i]}}
				if err := cam.say(m, `{"type":"bye","session":""}`); err != nil {
					t.Error(err)
				}
			}
		},
		"the device goes": func([]string) {
			cam.bus.Close(true)
			cam = h.device(trickles)
		},
	} {
		urls := h.crowd(cam, n)
		settled(t, before+50) // none for a session at rest
		end(urls)
		if left := h.Sessions(); left != 0 {
			t.Errorf("%s: %d sessions are left", name, left)
		}
		h.alone(cam)
	}
}

// settled waits until there are at most so many goroutines: those that are done may
// take a moment to end.
func settled(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > most; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("there are %d goroutines, want %d", runtime.NumGoroutine(), most)
		}
	}
}

// guests are the HTTP peers that called cam, and their sessions.
func (h *house) guests(cam *device, n int) (peers, sessions []string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.open {
		peers, sessions = append(peers, s.me.Name), append(sessions, s.callID)
	}
	return peers, sessions
}

// alone waits until nobody is in the garage but cam: whoever joins sees who is there.
func (h *house) alone(cam *device) {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for n := 0; ; n++ {
		h.leaving.Wait()
		guest := h.deviceOf(fmt.Sprintf("guest%d", n), trickles)
		others := 0
		for len(guest.got) > 0 {
			if m := <-guest.got; m.Kind == topics.Presence && strings.HasPrefix(m.Src, "http-") && len(m.Payload) > 0 {
				others++
			}
		}
		guest.bus.Close(true)
		if others == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%d are there still", others)
		}
	}
}
