package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func testLink(t *testing.T) (*link, *[]string) {
	t.Helper()
	s, err := parseFlags([]string{"--root", "acme/rtc", "--broker", "tcp://192.0.2.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLink(s.link, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	heard := &[]string{}
	l.receive = func(from string, payload []byte) error {
		*heard = append(*heard, from+" "+string(payload))
		if string(payload) == "replaced" {
			return errReplaced
		}
		return nil
	}
	return l, heard
}

// delivery is a publish as paho hands it over.
type delivery struct {
	mqtt.Message
	topic, payload string
	retained       bool
}

func (d delivery) Topic() string   { return d.topic }
func (d delivery) Payload() []byte { return []byte(d.payload) }
func (d delivery) Retained() bool  { return d.retained }

func TestSenderIsTheLastLevelOfTheTopic(t *testing.T) {
	l, heard := testLink(t)
	for _, d := range []delivery{
		{topic: "acme/rtc/v1/garage/to/cam1/alice", payload: "1"},
		{topic: "acme/rtc/v1/garage/to/cam1/alice", payload: "2", retained: true}, // of some other broker's past
		{topic: "acme/rtc/v1/garage/to/cam1/_", payload: "3"},
	} {
		l.arrived(nil, d)
	}
	if got := strings.Join(*heard, ", "); got != "alice 1, _ 3" {
		t.Errorf("heard %q", got)
	}
}

// paho connects again by itself, and then the camera would take its place back
// from the one that replaced it, and so on.
func TestReplacedCameraDoesNotJoinAgain(t *testing.T) {
	l, _ := testLink(t)
	l.arrived(nil, delivery{topic: "acme/rtc/v1/garage/to/cam1/_", payload: "replaced"})
	if err := l.join(nil); err != nil { // would panic if it used its client
		t.Error(err)
	}
	if err := l.run(t.Context(), nil); !errors.Is(err, errReplaced) {
		t.Errorf("%v, want errReplaced", err)
	}
}

func TestPresenceIsWhatTheProtocolSays(t *testing.T) {
	s, err := parseFlags([]string{"--max", "4096"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(s.link.presence)
	want := `{"online":true,"role":"camera","name":"Front door","offers":false,"trickle":true,"max":4096,"codecs":["VP8"],"info":{}}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
}
