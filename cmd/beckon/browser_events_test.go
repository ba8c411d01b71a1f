package main

import (
	"net/http/httptest"
	"testing"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/bridge/bustest"
	"github.com/beckon-rtc/beckon/bridge/rest"
	"github.com/beckon-rtc/beckon/broker/auth"
	"github.com/beckon-rtc/beckon/topics"
)

func TestEventSourceThatMeetsAServerThatGoesComesBackToTheNext(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	way := newRoad(t, s.MQTT)
	tab := newTab(t, "http://"+way.address+"/?room=attic&peer=somebody")
	tab.run(`Promise.resolve(Object.assign(window, { told: [], stream: new EventSource("/api/v1/rooms/garage/peers/alice/events") }))
		.then(() => { stream.onmessage = ({ data }) => told.push(JSON.parse(data).type); return ""; })`)
	tab.says(`told.join()`, "joined")

	bus := new(bustest.Memory)
	goes, err := rest.New(rest.Config{
		Connect: bus.Connect, Authenticate: auth.Dev, Origins: bridge.Origins{Dev: true},
		Rooms: func(topics.Identity) map[string]int { return nil }, Peers: func(topics.Identity, string) ([]topics.Delivery, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	goes.Close()
	server := httptest.NewServer(goes)
	defer server.Close()
	way.lead(server.Listener.Addr().String())
	way.cut()
	way.mend()
	tab.says(`told.join()`, "joined,goaway")
	way.lead(s.MQTT)
	tab.says(`told.filter((type) => type !== "goaway").join()`, "joined,joined")
}
