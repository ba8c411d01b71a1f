package topics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// decode reads an object with encoding/json: the names and the texts of the
// values, in order.
func decode(t testing.TB, payload []byte) (names []string, values []json.RawMessage) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(payload))
	if brace, err := d.Token(); err != nil || brace != json.Delim('{') {
		t.Fatalf("%q begins with %v, %v", payload, brace, err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatalf("%q: %v", payload, err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatalf("%q: %v", payload, err)
		}
		names, values = append(names, name.(string)), append(values, value)
	}
	return names, values
}

// depth is how deep valid JSON text nests.
func depth(text []byte) (most int) {
	level, inText := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{', c == '[':
			level++
			most = max(most, level)
		case c == '}', c == ']':
			level--
		}
	}
	return most
}

// acceptable is what Members must accept, by other means.
func acceptable(payload []byte) bool {
	trimmed := bytes.TrimLeft(payload, " \t\r\n")
	return utf8.Valid(payload) && json.Valid(payload) && trimmed[0] == '{' && depth(payload) <= MaxDepth
}

// checkMembers fails unless Members reads payload as encoding/json does.
func checkMembers(t *testing.T, payload []byte) {
	t.Helper()
	var members []Member
	var failed error
	for m, err := range Members(payload) {
		if failed != nil {
			t.Fatalf("%q: there is more after the error %v", payload, failed)
		}
		if err != nil {
			failed = err
			checkText(t, err)
			continue
		}
		members = append(members, m)
	}
	if want := acceptable(payload); (failed == nil) != want {
		t.Fatalf("%q: %v, but it should be accepted: %v", payload, failed, want)
	}
	if failed != nil {
		return
	}
	names, values := decode(t, payload)
	if len(names) != len(members) {
		t.Fatalf("%q has %d members, not %d", payload, len(names), len(members))
	}
	for i, m := range members {
		if string(m.Name) != names[i] || !bytes.Equal(m.Value, values[i]) {
			t.Fatalf("%q: member %d is %q: %s, not %q: %s", payload, i, m.Name, m.Value, names[i], values[i])
		}
		var s *string
		isText := json.Unmarshal(values[i], &s) == nil && s != nil
		if text, ok := m.Text(); ok != isText || ok && text != *s {
			t.Fatalf("%s as text is %q, %v", m.Value, text, ok)
		}
		for _, other := range []string{"", "garage", "a\\nb"} {
			if m.is(other) != (isText && *s == other) {
				t.Fatalf("%s is %q: %v", m.Value, other, m.is(other))
			}
		}
	}
}

// oddObjects are texts on the edge of JSON, right and wrong.
var oddObjects = []string{
	``, ` `, `{`, `}`, `{}`, ` {} `, "\t\r\n{\t\r\n}\t\r\n", `{}{}`, `{},`, `{}}`, `[]`, `[{}]`, `null`, `true`, `1`, `"{}"`, "\v{}", "\x00{}", "{}\x00", "\ufeff{}", "{\u00a0}", `{}//`, `/**/{}`,
	`{"a"}`, `{"a":}`, `{"a":1`, `{"a":1,}`, `{,"a":1}`, `{,}`, `{"a":1 "b":2}`, `{"a":1,,"b":2}`, `{"a" 1}`, `{"a"::1}`, `{a:1}`, `{'a':1}`, `{1:1}`, `{null:1}`, `{"a":1;"b":2}`, `{"a`, `{"a"`, `{"a":`, `{"a":"`, `{"":0}`, `{"a":1,"a":1}`,
	`{"a":0}`, `{"a":-0}`, `{"a":00}`, `{"a":01}`, `{"a":-}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1.e1}`, `{"a":1e}`, `{"a":1e+}`, `{"a":1E-07}`, `{"a":1e9999}`, `{"a":-1.5e-9999}`, `{"a":0x1}`, `{"a":1_0}`, `{"a":Infinity}`, `{"a":-Infinity}`, `{"a":NaN}`, `{"a":1 2}`, `{"a":-01}`, `{"a":0e0}`,
	`{"a":true}`, `{"a":tru}`, `{"a":truee}`, `{"a":TRUE}`, `{"a":false}`, `{"a":fals}`, `{"a":null}`, `{"a":nul}`, `{"a":nil}`, `{"a":undefined}`, `{"a":t`, `{"a":n`,
	`{"a":"\"\\\/\b\f\n\r\t"}`, `{"a":"\a"}`, `{"a":"\'"}`, `{"a":"\x41"}`, `{"a":"\0"}`, `{"a":"\`, `{"a":"\"`, `{"a":"\u"}`, `{"a":"\u12"}`, `{"a":"\u123`, `{"a":"\u12g4"}`, `{"a":"\uABCD"}`, `{"a":"\uabcd"}`, `{"a":"\U0041"}`, `{"a":"\u0000"}`,
	`{"a":"\ud800"}`, `{"a":"\udc00"}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ude00\ud83d"}`, `{"\ud800":1}`, `{"\ud800x":1}`, `{"a\u0062c":1}`, `{"\u":1}`, `{"\":1}`,
	"{\"a\":\"\n\"}", "{\"a\":\"\t\"}", "{\"a\":\"\x00\"}", "{\"a\":\"\x1f\"}", "{\"a\":\"\x7f\"}", "{\"a\n\":1}", "{\"a\":\"\u2028\"}",
	"{\"a\":\"\xff\"}", "{\"\xff\":1}", "{\"a\":\xff}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xf0\x9f\x98\"}", `{"a":"é😀"}`, `{"é":1}`,
	`{"a":[]}`, `{"a":[1]}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[}`, `{"a":[1}`, `{"a":{]}`, `{"a":{"b":[{}]}}`, `{"a":[ ] , "b" : { } }`, `{"a":{"b"}}`, `{"a":{"b":1,}}`, `{"a":[{"b":1},[]]}`,
	`{"a":` + nest(15) + `}`, `{"a":` + nest(16) + `}`, `{"a":` + nest(17) + `}`, `{"a":[` + nest(14) + `,` + nest(14) + `]}`, `{"a":` + strings.Repeat("[", 100_000) + `}`, strings.Repeat(`{"a":`, 16) + `1` + strings.Repeat(`}`, 16), strings.Repeat(`{"a":`, 17) + `1` + strings.Repeat(`}`, 17),
	`{"a":"garage"}`, `{"a":"g\u0061rage"}`, `{"a":"a\\nb"}`,
}

func TestObjectsAreReadAsEncodingJSONReadsThem(t *testing.T) {
	threat.Row(t, 25, 0)
	for _, text := range oddObjects {
		checkMembers(t, []byte(text))
	}
	for _, text := range oddObjects { // and every beginning of them
		for i := range min(len(text), 100) {
			checkMembers(t, []byte(text[:i]))
		}
	}
}

func TestTheErrorSaysWhereTheMistakeIs(t *testing.T) {
	for _, tt := range []struct {
		payload string
		at      int
		says    string
	}{
		{``, 0, "not a JSON object"},
		{`  []`, 2, "not a JSON object"},
		{`{} x`, 3, "more after the object"},
		{`{a:1}`, 1, "name is missing"},
		{`{"a":1,}`, 7, "name is missing"},
		{`{"a" 1}`, 5, "a colon is missing"},
		{`{"a":1 "b":2}`, 7, "closing brace is missing"},
		{`{"a":[1 2]}`, 8, "closing bracket is missing"},
		{`{"a":}`, 5, "value is missing"},
		{`{"a":trux}`, 5, "value is missing"},
		{`{"a":-x}`, 6, "number is malformed"},
		{`{"a":1.x}`, 7, "number is malformed"},
		{`{"a":1e+x}`, 8, "number is malformed"},
		{`{"a":"b\q"}`, 7, "escape is malformed"},
		{`{"a":"b\u12x4"}`, 7, "escape is malformed"},
		{`{"a":"b`, 7, "text does not end"},
		{`{"a":"b\"`, 9, "text does not end"},
		{"{\"a\":\"b\n\"}", 7, "control character"},
		{"{\"a\":\"\\n\n\"}", 8, "control character"},
		{"{\"a\x00\":1}", 3, "control character"},
		{`{"a":` + nest(16) + `}`, 20, "deeper than 16 levels"},
	} {
		var got error
		for _, err := range Members([]byte(tt.payload)) {
			got = err
		}
		if where := fmt.Sprintf("(at byte %d of %d)", tt.at, len(tt.payload)); got == nil || !strings.Contains(got.Error(), tt.says) || !strings.Contains(got.Error(), where) {
			t.Errorf("%s: %v, not %s %s", tt.payload, got, tt.says, where)
		}
	}
}

func TestReadingMayStopAtAnyMember(t *testing.T) {
	for stop := range 3 {
		n := 0
		for _, err := range Members([]byte(`{"a":1,"b":2,"c":3} what follows is not looked at`)) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n > stop {
				break
			}
		}
		if n != stop+1 {
			t.Errorf("%d members, not %d", n, stop+1)
		}
	}
}

func TestCutLeavesTheRestByteForByte(t *testing.T) {
	for _, tt := range []struct{ payload, drop, want string }{
		{`{"a":1,"b":2,"c":3}`, "", `{"a":1,"b":2,"c":3}`},
		{`{"a":1,"b":2,"c":3}`, "a", `{"b":2,"c":3}`},
		{`{"a":1,"b":2,"c":3}`, "b", `{"a":1,"c":3}`},
		{`{"a":1,"b":2,"c":3}`, "c", `{"a":1,"b":2}`},
		{`{"a":1,"b":2,"c":3}`, "a b", `{"c":3}`},
		{`{"a":1,"b":2,"c":3}`, "a b c", `{}`},
		{`{"a":1,"a":2,"b":{"a":3}}`, "a", `{"b":{"a":3}}`},
		{`{"\u0061":1,"b":2}`, "a", `{"b":2}`},
		{` { "a" : 1 , "b" : "a\u0062\/" , "c":[ 1e0 ] } `, "a", ` { "b" : "a\u0062\/" , "c":[ 1e0 ] } `},
		{` { "a" : 1 , "b" : 2 } `, "a b", ` {  } `},
		{`{}`, "a", `{}`}, {" {\n} ", "a", " {\n} "},
		{`{"A":1}`, "a", `{"A":1}`},
		{`not JSON`, "a", `not JSON`},
	} {
		drop := strings.Fields(tt.drop)
		if got := string(Cut([]byte(tt.payload), func(name []byte) bool { return slices.Contains(drop, string(name)) })); got != tt.want {
			t.Errorf("%s without %q is %s, not %s", tt.payload, tt.drop, got, tt.want)
		}
	}
}

func TestCutKeepsItsPromiseForRandomObjects(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		checkCut(t, randomObject(random), byte(random.Uint32()))
	}
}

// randomObject writes up to six members with white space and escapes about.
func randomObject(random *rand.Rand) []byte {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	space := func() string { return pick("", "", "", " ", "\n\t", "\r\n  ") }
	var out strings.Builder
	out.WriteString(space() + "{" + space())
	for i := range random.IntN(7) {
		if i > 0 {
			out.WriteString("," + space())
		}
		name := pick(`"a"`, `"to"`, `"from"`, `"fr\u006fm"`, `""`, `"room"`, `"longer name"`, `"é"`, `"\ud800"`)
		value := pick(`1`, `-0.5E+3`, `"x"`, `"\"},{\""`, `null`, `[]`, `[ 1 , {"to":"}"} ]`, `{ }`, `"\\"`, `true`)
		out.WriteString(name + space() + ":" + space() + value + space())
	}
	out.WriteString("}" + space())
	return []byte(out.String())
}

// checkCut cuts the members whose name's length is a bit of mask, and fails
// unless what is left is right.
func checkCut(t *testing.T, payload []byte, mask byte) {
	t.Helper()
	drop := func(name []byte) bool { return mask>>(len(name)%8)&1 == 1 }
	before := bytes.Clone(payload)
	got := Cut(payload, drop)
	if !bytes.Equal(payload, before) {
		t.Fatalf("%q was changed to %q", before, payload)
	}
	if !acceptable(payload) {
		if !bytes.Equal(got, payload) {
			t.Fatalf("%q is no object, but was cut to %q", payload, got)
		}
		return
	}
	if !acceptable(got) {
		t.Fatalf("%q was cut to %q", payload, got)
	}
	// Of every member that stays, the bytes from its name to its value, and what
	// was before the first member and after the last.
	texts := func(of []byte, all bool) (out []string) {
		head, tail := -1, len(of)
		for m := range Members(of) {
			if head < 0 {
				head = m.start
			}
			tail = m.end
			if all || !drop(m.Name) {
				out = append(out, string(of[m.start:m.end]))
			}
		}
		if head < 0 { // no members: braces and white space
			return nil
		}
		return append(out, string(of[:head]), string(of[tail:]))
	}
	want := texts(payload, false)
	switch left := texts(got, true); {
	case left != nil && !slices.Equal(left, want):
		t.Fatalf("of %q is left %q, not %q", payload, left, want)
	case left == nil && len(want) > 2:
		t.Fatalf("of %q nothing is left", payload)
	case left == nil && want != nil && string(got) != strings.Join(want, ""):
		t.Fatalf("of %q is left %q", payload, got)
	}
	if !slices.ContainsFunc(slices.Collect(namesOf(payload)), drop) && !bytes.Equal(got, payload) {
		t.Fatalf("nothing was to be cut from %q, but it is %q", payload, got)
	}
	if twice := Cut(got, drop); !bytes.Equal(twice, got) {
		t.Fatalf("%q cut again is %q", got, twice)
	}
}

func namesOf(payload []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for m := range Members(payload) {
			if !yield(m.Name) {
				return
			}
		}
	}
}

func FuzzMembers(f *testing.F) { f.Fuzz(checkMembers) }

func FuzzCut(f *testing.F) { f.Fuzz(checkCut) }
