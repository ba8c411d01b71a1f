package topics

import (
	"bytes"
	"testing"
)

// slowlyPlainUntil is plainUntil, a byte at a time.
func slowlyPlainUntil(text []byte, at int) int {
	for at < len(text) && text[at] >= ' ' && text[at] != '"' && text[at] != '\\' {
		at++
	}
	return at
}

func TestEveryByteThatIsNotPlainIsFoundAtEveryPlace(t *testing.T) {
	for _, around := range []byte{' ', '!', '#', '[', ']', 'a', 0x7f, 0x80, 0xff} {
		for c := range 256 {
			for place := range 20 {
				text := bytes.Repeat([]byte{around}, 20)
				text[place] = byte(c)
				for at := range 9 {
					if got, want := plainUntil(text, at), slowlyPlainUntil(text, at); got != want {
						t.Fatalf("in %q from %d: %d, not %d", text, at, got, want)
					}
				}
			}
		}
	}
}

func FuzzPlainUntil(f *testing.F) {
	f.Add([]byte("v=0\\r\\n"), 0)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		at = min(max(at, 0), len(text))
		if got, want := plainUntil(text, at), slowlyPlainUntil(text, at); got != want {
			t.Fatalf("in %q from %d: %d, not %d", text, at, got, want)
		}
	})
}
