package topics

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

var toCam1 = Address{Room: "garage", Kind: Direct, Dst: "cam1", Src: "alice"}

func TestTheMessagesOfTheContractAreTaken(t *testing.T) {
	for _, tt := range []struct {
		payload string
		want    Message
	}{
		{`{"type":"start","session":"k3","audio":"recvonly","video":"recvonly"}`, Message{Type: "start", Session: "k3"}},
		{`{"type":"offer","session":"k3","sdp":"v=0\r\n..."}`, Message{Type: "offer", Session: "k3"}},
		{`{"type":"answer","session":"k3","sdp":"v=0\r\n..."}`, Message{Type: "answer", Session: "k3"}},
		{`{"type":"candidate","session":"k3","candidate":"candidate:1 1 udp ...","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw"}`, Message{Type: "candidate", Session: "k3"}},
		{`{"type":"candidate","session":"k3","candidate":""}`, Message{Type: "candidate", Session: "k3"}},
		{`{"type":"bye","session":"k3","reason":"hangup"}`, Message{Type: "bye", Session: "k3"}},
		{string(Bye("k3")), Message{Type: "bye", Session: "k3"}},
		{`{"type":"msg","data":{"ptz":"left"}}`, Message{Type: "msg"}},
		{`{"type":"msg","session":"k3"}`, Message{Type: "msg", Session: "k3"}},
		{`{"type":"x-chat","text":"hi"}`, Message{Type: "x-chat"}},
		{`{"type":"x-` + strings.Repeat("a", 62) + `"}`, Message{Type: "x-" + strings.Repeat("a", 62)}},
		{`{"sdp":"v=0","session":"k3","type":"offer"}`, Message{Type: "offer", Session: "k3"}},
		{" \t\r\n{ \"type\" :\t\"offer\" ,\r\n\"session\" : \"k3\" } \n", Message{Type: "offer", Session: "k3"}},
		{`{"t\u0079pe":"of\u0066er","\u0073ession":"k\u0033"}`, Message{Type: "offer", Session: "k3"}},
		{`{"type":"offer","session":"` + strings.Repeat("_", 64) + `"}`, Message{Type: "offer", Session: strings.Repeat("_", 64)}},
		{`{"type":"offer","session":"-"}`, Message{Type: "offer", Session: "-"}},
		{`{"type":"msg","data":{"type":"nested","from":"mallory","session":"!"}}`, Message{Type: "msg"}},
		{`{"type":"msg","From":"mallory","TO":"x","ROOM":1,"frоm":"Cyrillic","Type":"offer","SESSION":"!"}`, Message{Type: "msg"}},
		{`{"type":"msg","n":1e9999,"m":-0.0e-9999,"k":` + strings.Repeat("9", 400) + `}`, Message{Type: "msg"}},
		{`{"type":"msg","s":"\ud800","\udc00":"\udc00\ud800","u":"\ud83d\ude00"}`, Message{Type: "msg"}},
		{`{"type":"msg","a":1,"a":2,"":null,"\u0000":true}`, Message{Type: "msg"}},
		{`{"type":"msg","data":` + nest(15) + `}`, Message{Type: "msg"}},
		{`{"type":"msg","from":"alice","to":"cam1","room":"garage","all":true}`, Message{Type: "msg", Routed: true}},
		{`{"type":"msg","fr\u006fm":"\u0061lice","from":"alice"}`, Message{Type: "msg", Routed: true}},
		{`{"type":"msg","all":false}`, Message{Type: "msg", Routed: true}},
	} {
		got, err := CheckMessage([]byte(tt.payload), toCam1)
		if err != nil || got != tt.want {
			t.Errorf("%.200s: %+v, %v", tt.payload, got, err)
		}
	}
}

func TestICEIsAskedOfTheServerOnly(t *testing.T) {
	for _, a := range []Address{toCam1, {Room: "garage", Kind: All, Src: "alice"}} {
		if m, err := CheckMessage([]byte(`{"type":"ice"}`), a); err == nil {
			t.Errorf("at %+v: %+v", a, m)
		}
	}
	if m, err := CheckMessage([]byte(`{"type":"ice"}`), Address{Room: "garage", Kind: Direct, Dst: Server, Src: "alice"}); err != nil || m.Type != TypeICE {
		t.Errorf("%+v, %v", m, err)
	}
}

// nest is an array n levels deep.
func nest(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestMalformedMessagesAreRefusedAndTheSenderIsToldWhich(t *testing.T) {
	threat.Row(t, 25, 0)
	for _, tt := range []struct {
		payload string
		says    string // a part of the text
		about   string // "type session", as far as it was understood
	}{
		{``, "not a JSON object", " "},
		{`null`, "not a JSON object", " "},
		{`"type"`, "not a JSON object", " "},
		{`[{"type":"msg"}]`, "not a JSON object", " "},
		{"\ufeff" + `{"type":"msg"}`, "not a JSON object", " "},
		{`{"type":"msg"}{}`, "more after the object", "msg "},
		{`{"type":"msg"},`, "more after the object", "msg "},
		{`{"type":"msg"}` + "\x00", "more after the object", "msg "},
		{`{"type":"msg"`, "closing brace is missing", "msg "},
		{`{"type":"msg","data":` + nest(16) + `}`, "deeper than 16 levels", "msg "},
		{`{"type":"msg","data":` + strings.Repeat(`{"a":`, 10_000), "deeper than 16 levels", "msg "},
		{`{"type":"msg","s":"` + "\xff" + `"}`, "not UTF-8", " "},
		{`{"type":"msg","s":"` + "\xed\xa0\x80" + `"}`, "not UTF-8", " "},
		{`{"type":"msg","n":01}`, "comma or a closing brace", "msg "},
		{`{"type":"msg","n":NaN}`, "value is missing", "msg "},

		{`{}`, `no "type"`, " "},
		{`{"Type":"msg"}`, `no "type"`, " "},
		{`{"type":""}`, "not empty", " "},
		{`{"type":null}`, "not empty", " "},
		{`{"type":1}`, "not empty", " "},
		{`{"type":["msg"]}`, "not empty", " "},
		{`{"type":"Offer","session":"k3"}`, "not known", "Offer k3"},
		{`{"type":"offer ","session":"k3"}`, "not known", "offer  k3"},
		{`{"type":"nonsense"}`, "not known", "nonsense "},
		{`{"type":"X-chat"}`, "not known", "X-chat "},
		{`{"type":"x-` + strings.Repeat("a", 63) + `"}`, "not known", " "},
		{`{"type":"x-"}`, "not known", "x- "},
		{`{"type":"x-a b"}`, "not known", "x-a b "},
		{`{"type":"x-ä"}`, "not known", "x-ä "},
		{`{"type":"` + strings.Repeat("a", 60_000) + `","session":"k3"}`, "not known", " k3"},
		{`{"type":"hello"}`, "only the server", "hello "},
		{`{"type":"error","session":"k3"}`, "only the server", "error k3"},
		{`{"type":"hell\u006f"}`, "only the server", "hello "},
		{`{"type":"msg","type":"msg"}`, "given twice", "msg "},
		{`{"type":"msg","typ\u0065":"offer","session":"k3"}`, "given twice", "offer k3"},
		{`{"type":"","type":"msg"}`, "not empty", "msg "},

		{`{"type":"start"}`, `needs a "session"`, "start "},
		{`{"type":"offer"}`, `needs a "session"`, "offer "},
		{`{"type":"answer","Session":"k3"}`, `needs a "session"`, "answer "},
		{`{"type":"candidate","candidate":""}`, `needs a "session"`, "candidate "},
		{`{"type":"bye"}`, `needs a "session"`, "bye "},
		{`{"type":"offer","session":""}`, "1 to 64", "offer "},
		{`{"type":"offer","session":null}`, "1 to 64", "offer "},
		{`{"type":"offer","session":3}`, "1 to 64", "offer "},
		{`{"type":"msg","session":{}}`, "1 to 64", "msg "},
		{`{"type":"offer","session":"k.3"}`, "1 to 64", "offer "},
		{`{"type":"offer","session":"k3 "}`, "1 to 64", "offer "},
		{`{"type":"offer","session":"k\u0000"}`, "1 to 64", "offer "},
		{`{"type":"offer","session":"\ud800"}`, "1 to 64", "offer "},
		{`{"type":"offer","session":"ké"}`, "1 to 64", "offer "},
		{`{"type":"offer","session":"` + strings.Repeat("k", 65) + `"}`, "1 to 64", "offer "},
		{`{"type":"offer","session":"k3","session":"k3"}`, "given twice", "offer k3"},
		{`{"type":"offer","session":"k3","s\u0065ssion":"k4"}`, "given twice", "offer k4"},

		{`{"type":"msg","from":"mallory"}`, `says "alice"`, "msg "},
		{`{"type":"msg","from":"Alice"}`, `says "alice"`, "msg "},
		{`{"type":"msg","from":"alice "}`, `says "alice"`, "msg "},
		{`{"type":"msg","from":""}`, `says "alice"`, "msg "},
		{`{"type":"msg","from":null}`, `says "alice"`, "msg "},
		{`{"type":"msg","from":["alice"]}`, `says "alice"`, "msg "},
		{`{"type":"msg","from":"_"}`, `says "alice"`, "msg "},
		{`{"type":"msg","from":"alice","from":"mallory"}`, `says "alice"`, "msg "},
		{`{"type":"msg","from":"mallory","from":"alice"}`, `says "alice"`, "msg "},
		{`{"type":"msg","fr\u006fm":"mallory"}`, `says "alice"`, "msg "},
		{`{"\u0066\u0072\u006F\u006d":"mallory","type":"msg","session":"k3"}`, `says "alice"`, "msg k3"},
		{`{"type":"msg","to":"cam2"}`, `says "cam1"`, "msg "},
		{`{"type":"msg","to":"cam1","t\u006f":"cam2"}`, `says "cam1"`, "msg "},
		{`{"type":"msg","room":"attic"}`, `says "garage"`, "msg "},
		{`{"type":"msg","room":"garage","room":"attic"}`, `says "garage"`, "msg "},
		{`{"type":"msg","room":1e9999}`, `says "garage"`, "msg "},
	} {
		m, err := CheckMessage([]byte(tt.payload), toCam1)
		if err == nil {
			t.Errorf("%.120q is taken: %+v", tt.payload, m)
			continue
		}
		e := AsError(err)
		if e.Code != BadRequest || e.To != "cam1" || !strings.Contains(e.Message, tt.says) {
			t.Errorf("%.120q: to %q, %v", tt.payload, e.To, e)
		}
		if about := e.About + " " + e.Session; about != tt.about || m.Type != e.About || m.Session != e.Session {
			t.Errorf("%.120q: the error is about %.80q, not %q; the message %+.80v", tt.payload, about, tt.about, m)
		}
		checkText(t, err)
		if len(e.Payload()) > 2000 {
			t.Errorf("%.120q: an error of %d bytes", tt.payload, len(e.Payload()))
		}
	}
}

func TestAMessageToAllHasNobodyItIsTo(t *testing.T) {
	a := Address{Room: "garage", Kind: All, Src: "alice"}
	if m, err := CheckMessage([]byte(`{"type":"msg","from":"alice","room":"garage"}`), a); err != nil || !m.Routed {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := CheckMessage([]byte(`{"type":"msg","to":"cam1"}`), a); err == nil {
		t.Error(`"to" a peer in a message to all is taken`)
	}
	_, err := CheckMessage([]byte(`{"type":"no"}`), a)
	if e := AsError(err); e.To != "" || e.About != "no" {
		t.Errorf("%+v", e)
	}
}

func TestOnlyOffersAndStartsOpenASessionAndOnlyByesEndIt(t *testing.T) {
	for _, kind := range []string{TypeStart, TypeOffer, TypeAnswer, TypeCandidate, TypeBye, TypeMsg, TypeICE, TypeHello, TypeError, "x-offer", ""} {
		m := Message{Type: kind}
		if m.Opens() != (kind == "offer" || kind == "start") || m.Ends() != (kind == "bye") {
			t.Errorf("%q opens %v, ends %v", kind, m.Opens(), m.Ends())
		}
	}
}

func TestRoutingMembersAreThoseOfSectionFive(t *testing.T) {
	for name, want := range map[string]bool{"room": true, "to": true, "from": true, "all": true, "id": false, "type": false, "": false, "From": false, "too": false} {
		if Routing([]byte(name)) != want {
			t.Errorf("%q is a routing member: %v", name, !want)
		}
	}
}

func TestHelloAndIceTravelAsInTheContract(t *testing.T) {
	turn := []ICEServer{{URLs: []string{"turn:t.example"}, Username: "u", Credential: "c"}}
	for _, tt := range []struct {
		hello Hello
		want  string
	}{
		{Hello{Type: TypeICE, ICEServers: turn, TTL: 3600}, `{"type":"ice","iceServers":[{"urls":["turn:t.example"],"username":"u","credential":"c"}],"ttl":3600}`},
		{Hello{Type: TypeHello, Room: "garage", Peer: "cam1", TTL: 3600, Max: 65536}, `{"type":"hello","room":"garage","peer":"cam1","iceServers":[],"ttl":3600,"max":65536}`},
	} {
		if got := string(tt.hello.Payload()); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	if got, want := string(Bye("k3")), `{"type":"bye","session":"k3","reason":"gone"}`; got != want {
		t.Errorf("%s", got)
	}
}

func FuzzCheckMessage(f *testing.F) {
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := CheckMessage(payload, toCam1)
		if err != nil {
			e := AsError(err)
			if e.Code != BadRequest || e.Of(m, toCam1.Dst).About != e.About || e.Session != m.Session {
				t.Fatalf("%+v, %+v", e, m)
			}
			if len(e.Payload()) > 3000 {
				t.Fatalf("an error of %d bytes", len(e.Payload()))
			}
			checkText(t, err)
			return
		}
		got := map[string][]json.RawMessage{}
		names, values := decode(t, payload)
		for i, name := range names {
			got[name] = append(got[name], values[i])
		}
		only := func(name, want string) {
			for _, v := range got[name] {
				var s *string
				if json.Unmarshal(v, &s) != nil || s == nil || *s != want {
					t.Fatalf("%q is %s, not %q, in %q", name, v, want, payload)
				}
			}
		}
		only("type", m.Type)
		only("session", m.Session)
		only("from", "alice")
		only("to", "cam1")
		only("room", "garage")
		if len(got["type"]) != 1 || len(got["session"]) > 1 || (len(got["session"]) == 1) != (m.Session != "") {
			t.Fatalf("%+v of %q", m, payload)
		}
		if routed := len(got["from"])+len(got["to"])+len(got["room"])+len(got["all"]) > 0; routed != m.Routed {
			t.Fatalf("routed %v, but says %v", routed, m.Routed)
		}
	})
}

// offer is a message of about 2 KiB, as a browser sends it.
var offer = func() []byte {
	sdp := "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
	for i := 0; len(sdp) < 1850; i++ {
		sdp += "a=rtpmap:" + strconv.Itoa(96+i) + " H264/90000\r\na=rtcp-fb:" + strconv.Itoa(96+i) + " nack pli\r\n"
	}
	text, _ := json.Marshal(sdp)
	return []byte(`{"type":"offer","session":"k3","sdp":` + string(text) + `}`)
}()

func BenchmarkCheckMessage(b *testing.B) {
	routed := append([]byte(`{"room":"garage","to":"cam1","from":"alice",`), offer[1:]...)
	for name, payload := range map[string][]byte{"offer": offer, "routed": routed, "candidate": []byte(`{"type":"candidate","session":"k3","candidate":"candidate:1 1 udp 2113937151 192.168.1.2 54321 typ host","sdpMid":"0","sdpMLineIndex":0}`)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if _, err := CheckMessage(payload, toCam1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWithout(b *testing.B) {
	routed := append([]byte(`{"id":7,"to":"cam1",`), offer[1:]...)
	var routing []Member
	for m := range Members(routed) {
		if string(m.Name) == "to" || string(m.Name) == "id" {
			routing = append(routing, m)
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(routed)))
	for b.Loop() {
		Without(routed, routing)
	}
}
