package bridge_test

import (
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/bridge"
)

func TestForeignTextIsEscapedAndCut(t *testing.T) {
	for text, want := range map[string]string{
		"cam1":                   `"cam1"`,
		"a\nlevel=INFO\x1b[2J“b": `"a\nlevel=INFO\x1b[2J\u201cb"`,
		strings.Repeat("x", 121): `"` + strings.Repeat("x", 120) + `"... (121 bytes)`,
	} {
		if got := bridge.Excerpt(text); got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
}
