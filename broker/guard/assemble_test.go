package guard

import (
	"encoding/hex"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// assemble makes bytes of a line of tokens: hex digits, `"text"` with its length
// in front, `'text'` without, `..` for the remaining length of what follows
// until `;` or the end, and
// `[ ... ]` for properties with their length in front.
func assemble(t testing.TB, line string) []byte {
	t.Helper()
	b, rest := tokens(t, line)
	if rest != "" {
		t.Fatalf("%q: a ] or ; too many", line)
	}
	return b
}

func tokens(t testing.TB, line string) (b []byte, rest string) {
	t.Helper()
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		switch {
		case strings.HasPrefix(line, ".."):
			var body []byte
			body, line = tokens(t, line[2:])
			b = append(appendVarint(b, len(body)), body...)
		case line[0] == '[':
			var body []byte
			body, line = tokens(t, line[1:])
			b = append(appendVarint(b, len(body)), body...)
		case line[0] == ']', line[0] == ';':
			return b, line[1:]
		case line[0] == '"':
			var s string
			s, line, _ = strings.Cut(line[1:], `"`)
			b = append(append(b, byte(len(s)>>8), byte(len(s))), s...)
		case line[0] == '\'':
			var s string
			s, line, _ = strings.Cut(line[1:], `'`)
			b = append(b, s...)
		default:
			end := strings.IndexAny(line+" ", ` "'[].;`)
			digits, err := hex.DecodeString(line[:end])
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			b, line = append(b, digits...), line[end:]
		}
	}
	return b, ""
}

// verdict is the reason for which the packet b is refused, 0 if it is good.
func verdict(t testing.TB, version byte, b []byte) byte {
	t.Helper()
	k := &checker{limits: Limits{}.withDefaults(), version: version, exchanges: version == 5}
	head, size, bad := k.frame(b, k.limits.Packet)
	if bad == nil && size != len(b) {
		t.Fatalf("frame of % X is %d bytes, have %d", b, size, len(b))
	}
	if bad == nil {
		_, bad = k.check(b, head)
	}
	if bad != nil {
		t.Log(bad)
		return bad.Reason
	}
	return 0
}
