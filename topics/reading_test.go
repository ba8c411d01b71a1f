package topics

import (
	"bytes"
	"slices"
	"testing"
)

// routed takes what a door keeps for itself.
func routed(m Member) bool { return slices.Contains([]string{"id", "room", "to"}, string(m.Name)) }

func TestAMessageIsReadWithoutWhatItsDoorTakes(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"msg"}`: `{"type":"msg"}`,
		`{"to":"bob","id":1,"type":"x-a","room":"attic","data":{"to":1}}`: `{"type":"x-a","data":{"to":1}}`,
		` { "t\u006f" : "bob" , "type":"msg" } `:                          ` { "type":"msg" } `,
	} {
		r, err := Read([]byte(text), routed)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := string(r.Text()); got != want {
			t.Errorf("%s is read as %s, not %s", text, got, want)
		}
		// What was taken is another's business: of this "to" the topic says something else.
		if m, err := r.Check(toCam1); err != nil || m.Routed || m != r.Known() {
			t.Errorf("%s: %+v, %v", text, m, err)
		}
	}
}

func TestAReadingIsGoodForOneAddressAndNotForAnother(t *testing.T) {
	r, err := Read([]byte(`{"type":"ice"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Check(toCam1); err == nil {
		t.Error("ice is taken for a camera")
	}
	if _, err := r.Check(Address{Room: "garage", Kind: Direct, Dst: Server, Src: "alice"}); err != nil {
		t.Error(err)
	}
}

func TestWhatNobodyReadIsNoMessage(t *testing.T) {
	if m, err := new(Reading).Check(toCam1); err == nil {
		t.Errorf("%+v", m)
	}
	for _, text := range []string{``, `{`, `{"type":"msg"`, `{"type":"msg"}x`, "{\"type\":\"msg\",\"a\":\"\xff\"}", `{"type":"msg","from":"alice",}`} {
		r, err := Read([]byte(text), nil)
		if err == nil {
			t.Errorf("%q was read", text)
		}
		if m, again := r.Check(toCam1); again == nil || AsError(again).Message != AsError(err).Message {
			t.Errorf("%q: %+v, %v and then %v", text, m, err, again)
		}
	}
}

func TestAFourthRoutingMemberIsNotLeftInTheMessage(t *testing.T) {
	r, err := Read([]byte(`{"to":"a","to":"b","to":"c","type":"msg","to":"d"}`), routed)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := r.Check(toCam1); AsError(err).Code != BadRequest {
		t.Errorf("it is taken: %+v, %v", m, err)
	}
}

// FuzzRead holds that what is read without some members is what is read of the text
// that is left.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"to":"bob","id":1,"type":"offer","session":"k3","sdp":""}`))
	f.Add([]byte(`{"type":"msg","from":"alice","to":"bob","type":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		r, err := Read(text, routed)
		if err != nil {
			return
		}
		m, err := r.Check(toCam1)
		if err != nil && r.cuts == len(r.cut) {
			return // for a fourth, maybe
		}
		again, errAgain := CheckMessage(r.Text(), toCam1)
		if m != again || (err == nil) != (errAgain == nil) || err != nil && AsError(err).Message != AsError(errAgain).Message {
			t.Fatalf("%q: %+v, %v; then %+v, %v", text, m, err, again, errAgain)
		}
		if !bytes.Equal(text, before) {
			t.Fatalf("%q was changed to %q", before, text)
		}
	})
}
