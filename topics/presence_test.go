package topics

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestPresencesOfTheContractAreTaken(t *testing.T) {
	for _, tt := range []struct {
		payload string
		want    Status
	}{
		{``, Status{}},
		{PresenceOnline, Status{Online: true}},
		{PresenceOffline, Status{}},
		{`{"online":true,"role":"camera","name":"Front door","offers":false,"trickle":true,"max":4096,"codecs":["H264","PCMA"],"info":{}}`, Status{Online: true, Max: 4096}},
		{" {\r\n\"online\" : true }\n", Status{Online: true}},
		{`{"onl\u0069ne":true}`, Status{Online: true}},
		{`{"online":false,"max":1}`, Status{Max: 1}},
		{`{"online":true,"since":"never","via":7,"info":` + nest(15) + `}`, Status{Online: true}},
		{`{"online":true,"Online":1,"Type":"x","MAX":"no"}`, Status{Online: true}},
		{`{"online":true,"info":"` + strings.Repeat("x", MaxPresence-25) + `"}`, Status{Online: true}},
	} {
		if got, err := CheckPresence([]byte(tt.payload)); err != nil || got != tt.want {
			t.Errorf("%.200s: %+v, %v", tt.payload, got, err)
		}
	}
}

func TestMalformedPresencesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		payload string
		code    Code
	}{
		{` `, BadRequest}, {`null`, BadRequest}, {`true`, BadRequest}, {`[]`, BadRequest}, {`online`, BadRequest}, {`{"online":true`, BadRequest}, {`{"online":true}}`, BadRequest}, {"\x00", BadRequest},
		{`{}`, BadRequest}, {`{"Online":true}`, BadRequest}, {`{"name":"x"}`, BadRequest},
		{`{"online":1}`, BadRequest}, {`{"online":"true"}`, BadRequest}, {`{"online":null}`, BadRequest}, {`{"online":[true]}`, BadRequest}, {`{"online":True}`, BadRequest},
		{`{"online":true,"online":true}`, BadRequest}, {`{"online":true,"online":false}`, BadRequest}, {`{"online":false,"onlin\u0065":true}`, BadRequest}, {`{"online":1,"online":true}`, BadRequest},
		{`{"online":true,"max":0}`, BadRequest}, {`{"online":true,"max":-1}`, BadRequest}, {`{"online":true,"max":1.5}`, BadRequest}, {`{"online":true,"max":"9"}`, BadRequest}, {`{"online":true,"max":null}`, BadRequest}, {`{"online":true,"max":1e9999}`, BadRequest}, {`{"online":true,"max":99999999999999999999}`, BadRequest},
		{`{"online":true,"type":"offer"}`, BadRequest}, {`{"online":true,"typ\u0065":null}`, BadRequest},
		{`{"online":true,"info":` + nest(16) + `}`, BadRequest}, {`{"online":true,"name":"` + "\xff" + `"}`, BadRequest},
		{`{"online":true,"info":"` + strings.Repeat("x", MaxPresence-24) + `"}`, TooLarge}, {strings.Repeat(" ", MaxPresence+1), TooLarge},
	} {
		got, err := CheckPresence([]byte(tt.payload))
		if err == nil {
			t.Errorf("%.200q is taken: %+v", tt.payload, got)
			continue
		}
		if AsError(err).Code != tt.code {
			t.Errorf("%.200q: %v", tt.payload, err)
		}
		checkText(t, err)
	}
}

func TestAnnounceAddsSinceAndViaAndTakesThoseOfTheClientAway(t *testing.T) {
	const own = `"since":1700000000,"via":"mqtt"}`
	for _, tt := range []struct{ payload, want string }{
		{`{"online":true}`, `{"online":true,` + own},
		{`{}`, `{` + own},
		{` { } `, ` { ` + own},
		{"{\n\"online\" : true\n}\r\n", "{\n\"online\" : true\n," + own},
		{`{"online":true,"name":"{"}`, `{"online":true,"name":"{",` + own},
		{`{"info":{}}`, `{"info":{},` + own},
		{`{"online":true,"since":1,"via":"admin"}`, `{"online":true,` + own},
		{`{"since":1,"online":true,"since":2,"via":null}`, `{"online":true,` + own},
		{`{"s\u0069nce":1,"online":true,"\u0076ia":"x"}`, `{"online":true,` + own},
		{`{ "since":1, "via":[] }`, `{  ` + own},
		{`{"info":{"since":1,"via":2},"Since":3}`, `{"info":{"since":1,"via":2},"Since":3,` + own},
	} {
		given := []byte(tt.payload)
		if got := string(Announce(given, 1700000000, "mqtt")); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
		if string(given) != tt.payload {
			t.Errorf("%q was changed to %q", tt.payload, given)
		}
	}
	if got, want := string(Announce([]byte(PresenceOffline), -5, "")), `{"online":false,"since":-5}`; got != want {
		t.Errorf("without a door: %s", got)
	}
}

func FuzzPresence(f *testing.F) {
	f.Fuzz(func(t *testing.T, payload []byte) {
		status, err := CheckPresence(payload)
		if err != nil {
			checkText(t, err)
			return
		}
		if len(payload) == 0 {
			return
		}
		before := bytes.Clone(payload)
		out := Announce(payload, 7, "ws")
		if !bytes.Equal(payload, before) {
			t.Fatalf("%q was changed to %q", before, payload)
		}
		if !acceptable(out) {
			t.Fatalf("%q is announced as %q", payload, out)
		}
		if again, err := CheckPresence(out); len(out) <= MaxPresence && (err != nil || again != status) {
			t.Fatalf("%q says %+v, but %q says %+v, %v", payload, status, out, again, err)
		}
		// The members of the client in order, without since and via, then ours.
		list := func(text []byte, keepOwn bool) (all []string) {
			names, values := decode(t, text)
			for i, name := range names {
				if keepOwn || name != "since" && name != "via" {
					all = append(all, fmt.Sprintf("%q:%s", name, values[i]))
				}
			}
			return all
		}
		want := append(list(payload, false), `"since":7`, `"via":"ws"`)
		if got := list(out, true); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q is announced with %q, not %q", payload, got, want)
		}
		for _, member := range want {
			if value, ok := strings.CutPrefix(member, `"online":`); ok && (value == "true") != status.Online {
				t.Fatalf("%q is taken as online: %v", payload, status.Online)
			}
		}
	})
}

func BenchmarkAnnounce(b *testing.B) {
	b.ReportAllocs()
	payload := []byte(`{"online":true,"role":"camera","name":"Front door","offers":false}`)
	for b.Loop() {
		Announce(payload, 1700000000, "mqtt")
	}
}
