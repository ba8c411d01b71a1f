package bridge

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
)

func TestWhatIsSplicedInCutsOutByteForByte(t *testing.T) {
	for _, payload := range []string{
		`{"type":"msg"}`,
		" \t{ \"type\" : \"msg\" ,\n\"data\":[ 1.0e+3, {} ]\r\n} ",
		`{"type":"msg","data":{"room":1,"from":2}}`,
		`{}`,
		`{ }`,
	} {
		for _, kind := range []topics.Kind{topics.Direct, topics.All} {
			d := topics.Delivery{Address: topics.Address{Room: "garage", Kind: kind, Src: "bob"}, Payload: []byte(payload)}
			out := messageFrame(d).Text()
			if !json.Valid(out) {
				t.Errorf("%q left as %q, which is not JSON", payload, out)
			}
			if got := topics.Cut(out, topics.Routing); payload != `{ }` && payload != `{}` && string(got) != payload {
				t.Errorf("%q came back as %q", payload, got)
			}
		}
	}
}

func TestAPayloadsOwnRoutingMembersAreReplaced(t *testing.T) {
	d := topics.Delivery{
		Address: topics.Address{Room: "garage", Kind: topics.Direct, Dst: "alice", Src: "bob"},
		Payload: []byte(`{"all":true,"type":"msg","to":"alice","from":"bob","id":7,"room":"garage"}`),
		Message: topics.Message{Type: "msg", Routed: true},
	}
	if got := string(messageFrame(d).Text()); got != `{"room":"garage","from":"bob","type":"msg","id":7}` {
		t.Errorf("it left as %s", got)
	}
	if !bytes.HasPrefix(d.Payload, []byte(`{"all":true,`)) {
		t.Error("the shared payload was changed")
	}
}

func TestAMessageLosesItsRoutingMembersOnly(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"msg"}`:            `{"type":"msg"}`,
		`{"to":"bob","type":"msg"}`: `{"type":"msg"}`,
		`{"type":"msg","id":1}`:     `{"type":"msg"}`,
		` { "room":"r", "type":"msg" , "data" : {"to":"x"} , "id":"a"}`: ` { "type":"msg" , "data" : {"to":"x"}}`,
		`{"type":"msg","t\u006f":"bob","peer":1,"token":2}`:             `{"type":"msg","peer":1,"token":2}`,
		`{"Type":"x","type":"msg","Room":"r","ID":{}}`:                  `{"Type":"x","type":"msg","Room":"r","ID":{}}`,
	} {
		f, err := readFrame([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if got := string(f.said.Text()); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

func TestAnIncompleteCharacterIsCutOffTheEnd(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", "aé": "aé", "a\xc3": "a", "a\xe2\x82": "a", "a\xf0\x9f\x98": "a", "a€": "a€"} {
		if got := string(whole([]byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// members lists the members of an object that keep wants, as text.
func members(t *testing.T, object []byte, drop ...string) string {
	t.Helper()
	var all strings.Builder
next:
	for m, err := range topics.Members(object) {
		if err != nil {
			t.Fatalf("%q is not an object: %v", object, err)
		}
		for _, d := range drop {
			if string(m.Name) == d {
				continue next
			}
		}
		all.Write(m.Name)
		all.WriteByte(0)
		all.Write(m.Value)
		all.WriteByte('\n')
	}
	return all.String()
}

// FuzzFrame holds that nothing panics, that an answer is JSON with the id of
// the frame, and that a message which is accepted leaves as JSON with the right
// room and sender and exactly the other members, unchanged.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		`{"type":"join","id":1,"room":"garage","peer":"alice","token":"t","presence":{"name":"A"}}`,
		`{"type":"offer","id":"é","to":"bob","session":"k3","sdp":"v=0\r\n"}`,
		`{"type":"msg","room":"garage","data":[1,{"to":"x"}]}`,
		" {\n\"to\" : \"_\" , \"type\":\"ice\" }\t",
		`{"type":"msg","from":"x"}`, `{"type":"msg","all":true}`, `{"id":1,"id":2,"type":"x"}`, `{"type":"msg","t\u006f":"bob"}`,
		`{`, `{}`, `[]`, "\xff", `{"id":`, `{"type":"presence","presence":{ }}`, `{"type":"presence","presence":{"online":false}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		fr, err := readFrame(text)
		e := topics.Errorf(topics.BadRequest, "no").Of(fr.about(), fr.to)
		if answer := errorFrame(fr.room, fr.id, e.Payload()); !json.Valid(answer) {
			t.Fatalf("the answer to %q is %q", text, answer)
		}
		if fr.presence != nil {
			if p, _, err := presenceOf(fr.presence); err == nil && !json.Valid(p) {
				t.Fatalf("the presence of %q is %q", text, p)
			}
		}
		_, _ = readFrame(whole(text[:len(text)/2]))
		if err != nil {
			return
		}
		payload := fr.said.Text()
		d := topics.Delivery{Address: topics.Address{Room: "garage", Kind: topics.Direct, Dst: "bob", Src: "alice"}, Payload: payload}
		if !fr.direct {
			d.Kind = topics.All
		}
		out := messageFrame(d).Text()
		if !bytes.Equal(text, before) {
			t.Fatalf("%q was changed to %q", before, text)
		}
		if got := topics.Cut(out, topics.Routing); !bytes.Equal(got, payload) {
			t.Fatalf("%q came back as %q", payload, got)
		}
		var has struct {
			Room, From string
			All        bool
		}
		if err := json.Unmarshal([]byte("{"+firstOf(out, "room", "from", "all")+"}"), &has); err != nil || !json.Valid(out) {
			t.Fatalf("%q left as %q: %v", text, out, err)
		}
		if has.Room != "garage" || has.From != "alice" || has.All == fr.direct {
			t.Fatalf("%q left as %q", text, out)
		}
		if in, left := members(t, text, "room", "to", "id"), members(t, out, "room", "from", "all"); in != left {
			t.Fatalf("%q left as %q", text, out)
		}
	})
}

// firstOf returns those members of an object that have these names.
func firstOf(object []byte, names ...string) string {
	var found []string
	for m := range topics.Members(object) {
		for _, n := range names {
			if string(m.Name) == n {
				found = append(found, `"`+n+`":`+string(m.Value))
			}
		}
	}
	return strings.Join(found, ",")
}

func BenchmarkReadFrame(b *testing.B) {
	text := []byte(`{"type":"offer","id":2,"to":"cam1","session":"k3","sdp":"` + strings.Repeat(`a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n`, 40) + `"}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := readFrame(text)
		if err != nil {
			b.Fatal(err)
		}
		f.said.Text()
	}
}

func BenchmarkMessageFrame(b *testing.B) {
	d := topics.Delivery{Address: topics.Address{Room: "garage", Kind: topics.Direct, Dst: "bob", Src: "alice"},
		Payload: []byte(`{"type":"offer","session":"k3","sdp":"` + strings.Repeat(`a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n`, 40) + `"}`)}
	b.SetBytes(int64(len(d.Payload)))
	b.ReportAllocs()
	for b.Loop() {
		messageFrame(d)
	}
}
