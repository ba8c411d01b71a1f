package whip

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestAccountThatSendsTooManyFragmentsIsSlowedDownThenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, func(c *Config) { c.Requests = 5 })
		cam := h.device(trickles)
		_, opened := h.opened(cam)
		url := opened.Header.Get("Location")
		statuses := make(chan int, 40)
		begin := time.Now()
		for range cap(statuses) {
			go func() { statuses <- h.do("PATCH", url, lines("a=ice-ufrag:EsAw")).StatusCode }()
		}
		got := map[int]int{}
		for range cap(statuses) {
			got[<-statuses]++
		}
		if took := time.Since(begin); len(got) != 2 || got[204] != 25 || got[429] != 15 || took != time.Second {
			t.Errorf("after %v the answers are %v", took, got)
		}
		wants(t, h.do("DELETE", url, ""), 200) // costs nothing
	})
}

func TestAccountThatOpensTooManySessionsIsSlowedDownThenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, func(c *Config) { c.Joins = 5 })
		begin := time.Now()
		// To nobody, which is an answer at once, and by somebody else.
		other := func() {
			wants(t, h.do("POST", "/whep/garage/cam1", offer, "Authorization", "Bearer "+token+"viewer1"), 404)
		}
		statuses := make(chan string, 20)
		for range 20 {
			go func() {
				r := h.do("POST", "/whep/garage/cam1", offer)
				statuses <- fmt.Sprint(r.StatusCode, " ", r.Header.Get("Retry-After"))
			}()
		}
		synctest.Wait()
		other()
		got := map[string]int{}
		for range 20 {
			got[<-statuses]++
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %v", took)
		}
		if len(got) != 2 || got["404 "] != 10 || got["429 2"] != 10 {
			t.Errorf("the answers are %v", got)
		}
		other()
	})
}
