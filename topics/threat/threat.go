package threat

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Doors are ways into the server, with the version of MQTT where it matters.
type Doors uint

// The doors one by one, and together.
const (
	TCP3 Doors = 1 << iota
	TCP5
	TLS3
	TLS5
	WS3
	WS5
	JSON // over WebSocket
	HTTP

	TCP  = TCP3 | TCP5
	TLS  = TLS3 | TLS5
	WS   = WS3 | WS5 // MQTT over WebSocket
	MQTT = TCP | TLS | WS
)

var doorNames = []struct {
	name  string
	doors Doors
}{
	{"mqtt", MQTT}, {"tcp", TCP}, {"tls", TLS}, {"ws", WS}, // the widest first
	{"tcp3", TCP3}, {"tcp5", TCP5}, {"tls3", TLS3}, {"tls5", TLS5}, {"ws3", WS3}, {"ws5", WS5},
	{"json", JSON}, {"http", HTTP},
}

// String lists them with commas; "-" stands for what is behind all doors.
func (d Doors) String() string {
	var names []string
	for _, n := range doorNames {
		if d&n.doors == n.doors {
			names = append(names, n.name)
			d &^= n.doors
		}
	}
	if names == nil {
		return "-"
	}
	return strings.Join(names, ",")
}

func parseDoors(text string) (d Doors) {
	for name := range strings.SplitSeq(text, ",") {
		for _, n := range doorNames {
			if n.name == name {
				d |= n.doors
			}
		}
	}
	return d
}

const word = "THREAT "

// Row says that the test shows row n at these doors; 0 is behind all of them.
// Call it first: the line that it logs is then written when all is over.
func Row(t testing.TB, n int, at Doors) {
	t.Helper()
	name := caller() + "." + t.Name()
	t.Cleanup(func() {
		result := "ok"
		switch {
		case t.Failed():
			result = "FAILED"
		case t.Skipped():
			result = "skipped"
		}
		t.Logf("%s%d %v %s %s", word, n, at, result, name)
	})
}

// Missing says that nothing shows row n, and skips the test.
func Missing(t testing.TB, n int, why string) {
	t.Helper()
	t.Logf("%s%d - missing %s", word, n, why)
	t.Skip(why)
}

// caller is the package that called the caller, without the module.
func caller() string {
	pc, _, _, _ := runtime.Caller(2)
	name := runtime.FuncForPC(pc).Name() // github.com/beckon-rtc/beckon/broker.TestX.func1
	path, rest := "", name
	if at := strings.LastIndexByte(name, '/'); at >= 0 {
		path, rest = name[:at+1], name[at+1:]
	}
	pkg, _, _ := strings.Cut(rest, ".")
	path = path + pkg
	if parts := strings.SplitN(path, "/", 4); len(parts) == 4 {
		path = parts[3]
	}
	return path
}

// shown is what the tests of a row came to.
type shown struct {
	at        Doors
	ok, wrong []string
	skipped   []string
	missing   string
}

// Table reads what go test -v printed and writes the table of rows. The error
// says which rows are not shown, and were not said to be missing either.
func Table(output io.Reader, to io.Writer) error {
	var all [len(rows)]shown
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if _, line, ok := strings.Cut(lines.Text(), word); ok {
			take(&all, line)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	var bad []string
	for n := 1; n < len(rows); n++ {
		s := &all[n]
		result := s.result(n)
		if strings.HasPrefix(result, "NOT SHOWN") || len(s.wrong) > 0 {
			bad = append(bad, strconv.Itoa(n))
		}
		fmt.Fprintf(to, "%2d  %-72s  %-14v  %s\n", n, rows[n].threat, s.at, result)
		for _, w := range slices.Concat(s.wrong, s.skipped, s.ok) {
			fmt.Fprintf(to, "      %s\n", w)
		}
	}
	if bad != nil {
		return fmt.Errorf("rows not shown: %s", strings.Join(bad, ", "))
	}
	return nil
}

// take takes a line: a number, doors, a result, and a test or a reason.
func take(all *[len(rows)]shown, line string) {
	f := strings.SplitN(line, " ", 4)
	if len(f) < 4 {
		return
	}
	n, err := strconv.Atoi(f[0])
	if err != nil || n < 1 || n >= len(rows) {
		return
	}
	s := &all[n]
	switch f[2] {
	case "ok":
		s.at |= parseDoors(f[1])
		s.ok = append(s.ok, f[3])
	case "skipped":
		s.skipped = append(s.skipped, f[2]+" "+f[3])
	case "missing":
		s.missing = f[3]
	default:
		s.wrong = append(s.wrong, f[2]+" "+f[3])
	}
}

func (s *shown) result(n int) string {
	switch lacks := rows[n].at &^ s.at; {
	case s.missing != "" && len(s.ok) == 0:
		return "missing: " + s.missing
	case len(s.ok) == 0:
		return "NOT SHOWN"
	case lacks != 0:
		return "NOT SHOWN at " + lacks.String()
	case s.missing != "":
		return fmt.Sprintf("%d tests; missing: %s", len(s.ok), s.missing)
	}
	return fmt.Sprintf("%d tests", len(s.ok))
}
