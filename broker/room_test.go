package broker

import (
	"testing"
)

func TestCameraAndViewerExchangeACallAcrossVersions(t *testing.T) {
	s := serve(t, Config{})
	cam := s.client3(t, "cam1").subscribe(inbox("garage", "cam1"))
	cam.expect(`rtc/v1/garage/to/cam1/_ "type":"hello"`)
	alice := s.client5(t, "alice").subscribe(inbox("garage", "alice"), "rtc/v1/garage/peers/+")
	alice.expect(`rtc/v1/garage/to/alice/_ "type":"hello"`, `rtc/v1/garage/peers/cam1 "online":true`)

	offer := `{ "type":"offer", "session":"k3","sdp":"v=0\r\n" ,"extra":[1, 2]}`
	if code := alice.publish("rtc/v1/garage/to/cam1/alice", offer, 1); code != 0 {
		t.Fatalf("PUBACK %#x", code)
	}
	if g := cam.next(); g.payload != offer || g.topic != "rtc/v1/garage/to/cam1/alice" || g.qos != 1 {
		t.Fatalf("got %+v", g)
	}
	cam.publish("rtc/v1/garage/to/alice/cam1", `{"type":"answer","session":"k3","sdp":"v=0"}`, 2)
	cam.publish("rtc/v1/garage/to/alice/cam1", `{"type":"candidate","session":"k3","candidate":""}`, 0)
	cam.publish("rtc/v1/garage/to/alice/cam1", `{"type":"bye","session":"k3"}`, 1)
	alice.expect(`rtc/v1/garage/to/alice/cam1 answer`, `rtc/v1/garage/to/alice/cam1 candidate`, `rtc/v1/garage/to/alice/cam1 bye`)
	alice.quiet("garage")
}

func TestOfferToNobodyIsToldAtOnce(t *testing.T) {
	s := serve(t, Config{})
	three := s.client3(t, "three").subscribe(inbox("garage", "three"))
	five := s.client5(t, "five").subscribe(inbox("garage", "five"))
	three.expect(`rtc/v1/garage/to/three/_ "hello"`)
	five.expect(`rtc/v1/garage/to/five/_ "hello"`)
	for qos := byte(0); qos <= 2; qos++ {
		three.publish("rtc/v1/garage/to/nobody/three", `{"type":"offer","session":"k3"}`, qos)
		three.expect(`rtc/v1/garage/to/three/_ {"type":"error","code":404,"reason":"not-found"`)
		code := five.publish("rtc/v1/garage/to/nobody/five", `{"type":"offer","session":"k3"}`, qos)
		five.expect(`rtc/v1/garage/to/five/_ "session":"k3","to":"nobody","about":"offer"`)
		if qos == 1 && code != 0x10 { // of QoS 2, paho returns the PUBCOMP
			t.Errorf("QoS %d: reason %#x, want 0x10", qos, code)
		}
	}
}
