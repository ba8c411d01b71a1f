package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
	"pgregory.net/rapid"

	"github.com/beckon-rtc/beckon/topics"
)

// The promise at the end of the threats: each accepted message ends in exactly one
// of delivered, held until a stated time, or failed with a reason, and its sender
// hears which. Random steps are done to a server, through its doors, and to the
// model; after each, when all is quiet, every client must have heard exactly what
// the model says. A run prints its steps as sentences. For a long one:
//
//	go test ./cmd/beckon -run ModelOnFakeTime -rapid.checks=2000 -rapid.steps=60
func TestModelOnFakeTimeEveryMessageHasOneFateAndItsSenderHearsIt(t *testing.T) {
	sequences(t, 60, 60)
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			p := &play{T: rt, tb: &bubble{TB: t, rt: rt}, model: newModel(time.Now()), stage: new(pipes)}
			defer p.finish()
			p.device, p.held, p.open, p.grace, p.hold = "cam", 2, 2, 5*time.Second, 20*time.Second+time.Millisecond/2
			p.begin(mqtt3TCP, mqtt5TCP, jsonWS)
			steps := p.steps()
			maps.Copy(steps, map[string]func(){"wait": p.wait, "wait more": p.wait, "grant": p.regrant, "narrow": p.regrant, "revoke": p.takeAccount})
			p.repeat(steps)
		})
	})
}

var (
	roomsOfPlay = []string{"garage", "attic"}
	namesOfPlay = []string{"alice", "bob", "cam"} // cam is a device
)

// play is a server, its clients, and the model of them.
type play struct {
	*rapid.T
	tb *bubble
	*model
	stage
	site    *site
	parties []*party
	absent  []*party // whose connection was lost, and who may try to resume it
	doors   []entrance
	patient bool   // clients of JSON prove what they got in a step only
	watched bool   // the eye reads what peers say to each other
	eye     *party // an observer of everything
	late    *party // another, who comes anew each time
	said    int    // messages so far
	met     int    // connections so far
}

// stage is where a play is done.
type stage interface {
	start(*play) *site
	stop()
	await(is func() bool) // until that is so, or nothing more can come
	flush(*party)         // waits until what is on its way has come
	cutOff(*play, *party) // waits until that was noticed
}

// party is a connection and its model.
type party struct {
	*link
	c    *caller
	mind *mind            // of JSON
	view map[place]string // presences
	got  []string
}

func (p *play) say(format string, args ...any) { p.Logf("-- "+format, args...) }

// bubble is what the helpers of other tests need of a test.
type bubble struct {
	testing.TB
	rt   *rapid.T
	ends []func()
}

func (b *bubble) Helper() {}

func (b *bubble) Cleanup(f func()) { b.ends = append(b.ends, f) }

func (b *bubble) Fatalf(f string, args ...any) { b.rt.Fatalf(f, args...) }

func (p *play) begin(doors ...entrance) {
	p.doors = doors
	p.watched = rapid.Bool().Draw(p.T, "watched")
	for _, r := range roomsOfPlay {
		for _, n := range namesOfPlay {
			p.may[place{r, n}] = true
		}
	}
	p.openDoors()
	p.gather()
}

// gather lets everybody in, so that there is something to play with.
func (p *play) gather() {
	for _, name := range namesOfPlay {
		p.arriveAs(name, roomsOfPlay[0])
	}
}

// openDoors starts the server, and the observers.
func (p *play) openDoors() {
	p.site = p.start(p)
	p.eye, p.late = p.observer(), p.observer()
	for _, room := range roomsOfPlay {
		p.eye.subscribe(p, room, "peers/+", "all/+")
		if p.watched {
			p.eye.subscribe(p, room, "to/+/+")
		}
	}
}

func (one *party) subscribe(p *play, room string, kinds ...string) {
	for _, kind := range kinds {
		if err := one.c.line.(*line3).subscribe("rtc/v1/" + room + "/" + kind); err != nil {
			p.Fatal(err)
		}
	}
}

func (one *party) unsubscribe(p *play, room string, kinds ...string) {
	for _, kind := range kinds {
		var err error
		switch filter := "rtc/v1/" + room + "/" + kind; l := one.c.line.(type) {
		case *line3:
			err = done(l.client.Unsubscribe(filter))
		case *line5:
			_, err = l.client.Unsubscribe(context.Background(), &paho5.Unsubscribe{Topics: []string{filter}})
		}
		if err != nil {
			p.Fatal(err)
		}
	}
}

// observer connects someone who may read everything.
func (p *play) observer() *party {
	var c *caller
	c = p.client("observer", mqtt3TCP, func(o *paho3.ClientOptions) {
		o.SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) {
			e := mqttEvent(m.Topic(), m.Payload())
			if e.kind == "message" {
				e.kind += " to " + strings.Split(m.Topic(), "/")[4]
			}
			if e.from != topics.Server {
				c.events <- e
			}
		})
	})
	return &party{link: &link{id: "observer"}, c: c, view: map[place]string{}}
}

// client connects by MQTT 3.1.1 with options of its own.
func (p *play) client(name string, at entrance, opt func(*paho3.ClientOptions)) *caller {
	c := &caller{t: p.tb, name: name, at: at, events: make(chan event, 10000), ended: make(chan string, 1)}
	l, err := p.site.mqtt3(p.tb, c, opt)
	if err != nil {
		p.Fatalf("%s does not connect: %v", name, err)
	}
	c.line = l
	return c
}

func (p *play) finish() {
	for _, one := range p.parties {
		one.c.line.cut()
	}
	p.stop()
	for _, f := range slices.Backward(p.tb.ends) {
		f()
	}
}
