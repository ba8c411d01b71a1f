package topics

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// plain is the rule of the contract in its own words, a regular expression.
var plain = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// oddNames are no names, one reason per line.
var oddNames = []string{
	"", " ", "\t", "\n", "\x00",
	"_", "_me", ".", "..", ".me", "...", "-", "-me", "--", "__proto__",
	"/", "//", "a/b", "/a", "a/", "a//b", "../a", "a/../b", "a/..", `a\b`, `\a`, `a\`, "//a",
	"+", "#", "*", ">", "a+", "+a", "a#", "#a", "a*", "*a", "a>", ">a", "+/+", "a/+", "a/#", "$", "$SYS", "$share", "$me", "a$",
	"a\x00", "\x00a", "a\x00b", "a%00", "%00", "%", "%a", "a%", "a%2fb", "a%2Fb", "%2e%2e", "a%20b", "a%", "%41", "%%", "a%s", "a%n",
	"a b", " a", "a ", "a\t", "a\n", "a\r\n", "\na", "a\r", "a\nb", "a\v", "a\f", "a\x7f", "a\x1b[31m", "a\b",
	"a:b", "a@b", "a,b", "a;b", "a=b", "a&b", "a|b", "a!", "a?", "a'", `a"`, "a`", "a(b)", "a[0]", "a{b}", "a<b>", "a~", "a^", "~", "user@host", "a?x=1",
	"{{a}}", "${a}", "$(a)", "';--", "<script>",
	"é", "aé", "ä", "ß", "ñandu", "кам1", "сam1" /* Cyrillic es */, "cаm1" /* Cyrillic a */, "ｃａｍ", "cam１", "cam¹", "cam½", "cam①", "cam٣", "𝒸am",
	"\u212a" /* Kelvin sign, folds to k */, "\u017f" /* long s, folds to s */, "caſe", "İ", "ı", "ﬁ", "Å", "ﾠ",
	"a\u0301", "a\u200b", "\u200ba", "a\u200d", "a\u200c", "a\ufeff", "\ufeffa", "a\u00ad", "a\u2060", "a\u180e", "a\u00a0", "a\u3000", "a\u2028", "a\u2029", "a\u0085",
	"a\u202eb", "a\u202a", "a\u2066b", "\u200fa", "a\ufe0f", "a\U000e0041", "a\u2024b" /* one dot leader */, "a\uff0eb", "a\uff0fb", "a\u2215b", "a\u2044b", "a\uff0b", "a\uff03", "a\u2010b", "a\u2013b", "a\uff3fb", "😀",
	"a\x80", "a\xff", "\xff", "a\xc0\xaf", "a\xc0\x80", "a\xe2\x82", "a\xed\xa0\x80", "a\xf4\x90\x80\x80", "\xef\xbb\xbfa",
	strings.Repeat("a", MaxName+1), strings.Repeat("a", 256), strings.Repeat("a", 65536), strings.Repeat("é", 32), "a" + strings.Repeat(".", MaxName),
}

func TestOddNamesAreRefusedAndShownHarmlessly(t *testing.T) {
	if len(oddNames) < 120 {
		t.Errorf("%d odd names are fewer than 120", len(oddNames))
	}
	for _, name := range oddNames {
		err := CheckName("room", name)
		if ValidName(name) || err == nil {
			t.Errorf("%.80q is taken as a name", name)
			continue
		}
		checkText(t, err)
		if AsError(err).Code != BadRequest {
			t.Errorf("%.80q: code %d", name, AsError(err).Code)
		}
	}
}

func TestOddNamesAreRefusedInEveryLevelOfATopicOrFilter(t *testing.T) {
	threat.Row(t, 20, 0)
	for _, name := range oddNames {
		for _, form := range []string{"%s/peers/cam1", "garage/peers/%s", "garage/all/%s", "garage/wake/%s", "garage/to/%s/cam1", "garage/to/cam1/%s"} {
			topic := "rtc/v1/" + strings.ReplaceAll(form, "%s", name)
			a, err := DefaultRoot.Parse(topic)
			if err == nil && (name != Server || a.Room == Server) {
				t.Errorf("Parse(%.80q) = %+v", topic, a)
			}
			if name == "+" || name == "#" || name == Server || strings.Contains(name, "/") {
				continue // may stand in a filter; see the tests of filters
			}
			if f, err := DefaultRoot.ParseFilter(topic); err == nil {
				t.Errorf("ParseFilter(%.80q) = %+v", topic, f)
			}
		}
	}
}

func TestNamesMayHoldEveryAllowedByteAndNoOther(t *testing.T) {
	for _, name := range []string{"a", "Z", "0", "cam1", "Front-door.2_b", "a.", "a-", "a_", "a..b", "0.0.0.0", "v1", "peers", "to", strings.Repeat("9", MaxName)} {
		if !ValidName(name) || CheckName("peer", name) != nil {
			t.Errorf("%q is refused", name)
		}
	}
	for c := range 256 {
		b := string([]byte{byte(c)})
		for _, name := range []string{b, b + "a", "a" + b, "a" + b + "a"} {
			if got, want := ValidName(name), plain.MatchString(name); got != want {
				t.Errorf("ValidName(%q) = %v", name, got)
			}
		}
	}
}

func TestAWrongNameIsNotRepeatedAtLength(t *testing.T) {
	err := CheckName("room", strings.Repeat("é", 50_000))
	if text := err.Error(); len(text) > 1000 || !strings.Contains(text, "(100000 bytes)") {
		t.Errorf("%d bytes: %.300s", len(text), text)
	}
}

func FuzzName(f *testing.F) {
	f.Fuzz(func(t *testing.T, name string) {
		valid := plain.MatchString(name)
		if ValidName(name) != valid {
			t.Fatalf("ValidName(%q) = %v", name, !valid)
		}
		err := CheckName("peer", name)
		if (err == nil) != valid {
			t.Fatalf("CheckName(%q) = %v", name, err)
		}
		if err != nil {
			checkText(t, err)
		}
		a := Address{Room: "garage", Kind: All, Src: name}
		if back, err := DefaultRoot.Parse(DefaultRoot.Topic(a)); (err == nil && back == a) != (valid || name == Server) {
			t.Fatalf("%q comes back as %+v, %v", name, back, err)
		}
	})
}

// checkText fails unless an error can stand in a log as it is: printable ASCII,
// and not long.
func checkText(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 1000 {
		t.Errorf("an error of %d bytes: %.100s", len(text), text)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			t.Errorf("byte %#x in the error %.200q", text[i], text)
			return
		}
	}
}

func ExampleCheckName() {
	fmt.Println(CheckName("room", "a/b"))
	// Output: 400 bad-request: room "a/b" is not a name: it takes 1 to 64 letters, digits, '_', '.' and '-', and begins with a letter or a digit
}
