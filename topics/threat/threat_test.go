package threat

import (
	"fmt"
	"strings"
	"testing"
)

func TestTableTellsWhatIsShownAndWhatIsNot(t *testing.T) {
	var out strings.Builder
	for n := 1; n < len(rows); n++ {
		fmt.Fprintf(&out, "    x_test.go:1: THREAT %d %v ok broker.TestX\n", n, rows[n].at)
	}
	whole := out.String()
	for name, c := range map[string]struct{ output, want string }{
		"all":                {whole, ""},
		"a row is not there": {strings.Replace(whole, "THREAT 5 ", "THREAT 6 ", 1), "rows not shown: 5"},
		"a test failed":      {strings.Replace(whole, "THREAT 7 - ok", "THREAT 7 - FAILED", 1), "rows not shown: 7"},
		"a test was skipped": {strings.Replace(whole, "THREAT 7 - ok", "THREAT 7 - skipped", 1), "rows not shown: 7"},
		"a door is not there": {
			strings.Replace(whole, "THREAT 13 mqtt ok", "THREAT 13 tcp,tls,ws3 ok", 1), "rows not shown: 13",
		},
		"doors of two tests": {
			strings.Replace(whole, "THREAT 13 mqtt ok", "THREAT 13 tcp,tls,ws3 ok broker.TestY\nTHREAT 13 ws5 ok", 1), "",
		},
		"a door is not there, and more is said to be missing": {
			strings.Replace(whole, "THREAT 13 mqtt ok", "THREAT 13 - missing more\nTHREAT 13 tcp ok", 1), "rows not shown: 13",
		},
		"said to be missing": {strings.Replace(whole, "THREAT 30 - ok", "THREAT 30 - missing", 1), ""},
	} {
		var table strings.Builder
		err := Table(strings.NewReader(c.output), &table)
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
			t.Errorf("%s: %v, want %q\n%s", name, err, c.want, &table)
		}
	}
}

func TestLineNamesTheTestAndItsDoors(t *testing.T) {
	log := new(recorder)
	t.Run("inner", func(t *testing.T) {
		log.TB = t
		Row(log, 15, TCP|TLS5|HTTP)
	})
	if want := "THREAT 15 tcp,tls5,http ok topics/threat.TestLineNamesTheTestAndItsDoors/inner"; log.said != want {
		t.Errorf("%q, want %q", log.said, want)
	}
}

// recorder keeps what a test logs.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Logf(format string, args ...any) { r.said = fmt.Sprintf(format, args...) }
