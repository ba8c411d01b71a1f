package main

import "testing"

// A camera in its grace is sent something in a session that is open, then an offer
// of another by the same sender. It gets both, or the sender is told.
func TestChaosOfferDropsNothingOfASessionThatIsOpen(t *testing.T) {
	s := startSite(t, "--grace=1h")
	for _, c := range []struct{ kind, waits string }{
		{"bye", `{"type":"bye","session":"s1"}`},
		{"candidate", `{"type":"candidate","session":"s1","candidate":""}`},
		{"renegotiation", `{"type":"offer","session":"s1","sdp":"v=0"}`},
		{"data", `{"type":"msg","session":"s1","data":1}`},
	} {
		t.Run(c.kind, func(t *testing.T) {
			cam := s.caller(t, mqtt5TCP, "cam", c.kind)
			viewer := s.caller(t, jsonWS, "viewer", c.kind)
			viewer.sees("cam")
			first, second := `{"type":"offer","session":"s1","sdp":""}`, `{"type":"offer","session":"s2","sdp":""}`
			viewer.send("cam", first)
			cam.until("the first offer", func(e event) bool { return e.text == first })
			cam.quiet(func(e event) bool { return e.kind == "presence" })
			cam.cut()
			s.awaitLog(t, `msg="connection lost" room=`+c.kind+" peer=cam")
			for _, payload := range []string{c.waits, second} {
				if fate := viewer.send("cam", payload); fate != 0 {
					t.Fatalf("%s was refused with %d", payload, fate)
				}
			}
			back := s.caller(t, mqtt5TCP, "cam", c.kind)
			back.again = func(e event) bool { return e.text == first }
			back.hears("viewer", c.waits, second)
			viewer.quiet()
		})
	}
}
