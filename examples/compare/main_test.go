package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small is enough to see that everything is measured.
var small = load{
	pairs: 2, rate: 40, receivers: 3, window: 4, connections: 8,
	measured: 200 * time.Millisecond, warmup: 50 * time.Millisecond, hold: 50 * time.Millisecond,
}

// compared runs all of it for some servers, and returns the file with the table.
func compared(t *testing.T, names ...string) (file string) {
	t.Helper()
	into := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(into, []byte("above\n"+tableBegins+"old\n"+tableEnds+"below\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), settings{rounds: 1, only: names, into: into, load: small}, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	text, err := os.ReadFile(into)
	if err != nil {
		t.Fatal(err)
	}
	if want := "above\n" + tableBegins + stdout.String() + tableEnds + "below\n"; string(text) != want {
		t.Errorf("the file is\n%s\nand not\n%s", text, want)
	}
	for _, bad := range []string{"failed", "lost", "left out"} {
		if strings.Contains(stdout.String(), bad) {
			t.Errorf("something was %s:\n%s\n%s", bad, &stdout, &stderr)
		}
	}
	return string(text)
}

func TestBeckonAndABareBrokerAreComparedByEveryDoor(t *testing.T) {
	table := compared(t, "Beckon", "mochi")
	if rows := strings.Count(table, "\n| Beckon | ") + strings.Count(table, "\n| mochi | "); rows != 9 {
		t.Errorf("%d rows, want 9:\n%s", rows, table)
	}
	if strings.Contains(table, missing) {
		t.Errorf("a figure is missing:\n%s", table)
	}
}

func TestServersOfOtherProtocolsAreCompared(t *testing.T) {
	if _, err := os.Stat("node_modules/peer"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v, and CI=true", err)
		}
		t.Skip("skipped: PeerJS and ws are not installed: run npm ci in examples/compare")
	}
	table := compared(t, "PeerJS", "ws-relay")
	if n := strings.Count(table, missing); n != 3 { // PeerJS speaks to one at a time
		t.Errorf("%d figures are missing, want 3:\n%s", n, table)
	}
}

func TestMissingServerIsLeftOutInWords(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	w := &workshop{root: t.TempDir(), dir: t.TempDir(), stderr: new(bytes.Buffer)}
	r := newReport(small, []string{"PeerJS"})
	about := w.prepare(t.Context(), r)
	if len(about) != 1 || about[0] != "PeerJS was left out: the program node is not installed." {
		t.Errorf("it is said: %q", about)
	}
	for _, k := range r.works {
		if r.takes(r.rows[0], k) {
			t.Errorf("%s is to be measured all the same", k.name)
		}
	}
}

func TestServerThatDoesNotStartSaysWhy(t *testing.T) {
	w := &workshop{dir: t.TempDir()}
	fails := contestant{name: "sh", command: func(*workshop, string, address) ([]string, error) {
		return []string{"sh", "-c", "echo no licence; exit 1"}, nil
	}}
	if _, err := w.start(t.Context(), fails); err == nil || !strings.Contains(err.Error(), "no licence") {
		t.Errorf("the error is %v", err)
	}
}

func TestAllMistakesInFlagsAreTold(t *testing.T) {
	_, err := parseFlags([]string{"-rounds=0", "-measure=1ms", "-into=nowhere.md", "more"})
	if err == nil {
		t.Fatal("they are taken")
	}
	for _, want := range []string{"-rounds 0", "-measure 1ms", "nowhere.md", `"more"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if _, err := parseFlags([]string{"-only=Bacon"}); err == nil || !strings.Contains(err.Error(), `"Bacon"`) {
		t.Errorf("of an unknown server: %v", err)
	}
}
