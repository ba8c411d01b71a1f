package whip

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

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
