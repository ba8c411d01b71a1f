package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/cmd/beckon/bench"
)

func TestMedianIsInTheMiddle(t *testing.T) {
	for _, test := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 100}, 3.5}} {
		before := slices.Clone(test.of)
		if got := median(test.of); got != test.want || !slices.Equal(test.of, before) {
			t.Errorf("of %v: %v, want %v (now %v)", before, got, test.want, test.of)
		}
	}
}

func TestTableHasMediansAndWhatWentWrong(t *testing.T) {
	r := newReport(usual, []string{"mochi", "PeerJS"})
	r.about = []string{"A machine."}
	for _, row := range r.rows {
		for _, k := range r.works {
			if !r.takes(row, k) {
				continue
			}
			for _, n := range []float64{10, 30, 20} {
				r.add(row, k, &bench.Result{CallsPerSecond: 100 * n, CPUPerMessage: n, DeliveredPerSecond: n, PerConnection: n, Latency: &bench.Percentiles{P99: n}}, nil)
			}
		}
	}
	calls, rate := r.works[0], r.works[1]
	r.add(r.rows[0], calls, &bench.Result{CallsPerSecond: 2000, CPUPerMessage: 20, Delivered: 8, Lost: 2, ConnectionsLost: 1}, nil)
	r.add(r.rows[0], calls, nil, errors.New("refused"))
	r.cells[r.rows[1].place(rate)] = &cell{failures: 3}
	want := `| mochi | MQTT, QoS 0 | 2000 | 20.0 | 20.0 | 20.0 | 20.0 | 20 | 20.0 |
| mochi | MQTT, QoS 1 | 2000 | 20.0 | failed | 20.0 | 20.0 | 20 | 20.0 |
| mochi | MQTT over WebSocket, QoS 0 | 2000 | 20.0 | 20.0 | 20.0 | 20.0 | 20 | 20.0 |
| mochi | MQTT over WebSocket, QoS 1 | 2000 | 20.0 | 20.0 | 20.0 | 20.0 | 20 | 20.0 |
| PeerJS | WebSocket | 2000 | 20.0 | 20.0 | – | – | – | 20.0 |

mochi, MQTT, QoS 0, calls: 2 of 10 messages were lost, 1 connections were lost, 1 of 5 runs failed. mochi, MQTT, QoS 1, calls at a rate: 3 of 3 runs failed.

A machine.
`
	if table := r.markdown(); !strings.HasSuffix(table, want) {
		t.Errorf("the table is\n%s\nand should end in\n%s", table, want)
	}
}

func TestServerThatIsLeftOutHasItsRows(t *testing.T) {
	r := newReport(usual, []string{"ws-relay"})
	r.leaveOut(r.rows[0].server)
	if table := r.markdown(); !strings.Contains(table, "| ws-relay | WebSocket | – | – | – | – | – | – | – |\n") {
		t.Errorf("the table is\n%s", table)
	}
}

func TestTableReplacesWhatStandsBetweenTheMarks(t *testing.T) {
	got, err := replaceTable("a\n"+tableBegins+"old\n"+tableEnds+"b\n", "new\n")
	if want := "a\n" + tableBegins + "new\n" + tableEnds + "b\n"; err != nil || got != want {
		t.Errorf("it is %q, %v, want %q", got, err, want)
	}
	for _, text := range []string{"", tableBegins, tableEnds} {
		if _, err := replaceTable(text, ""); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestReadmeHasTheTableThatIsWritten holds the rows and columns of README.md, not
// its figures.
func TestReadmeHasTheTableThatIsWritten(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), tableBegins)
	table, _, ok := strings.Cut(table, tableEnds)
	if !ok {
		t.Fatalf("README.md has no lines %s and %s", strings.TrimSpace(tableBegins), strings.TrimSpace(tableEnds))
	}
	want := shape(newReport(usual, nil).markdown())
	if got := shape(table); !slices.Equal(got, want) {
		t.Errorf("README.md has other rows or columns than go run ./examples/compare writes:\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// shape is the head of a table, and of its other rows how many cells there are, and
// what the first two say.
func shape(table string) (lines []string) {
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		switch {
		case len(cells) < 4:
		case len(lines) < 2:
			lines = append(lines, strings.TrimSpace(line))
		default:
			for i := 3; i < len(cells); i++ {
				cells[i] = ""
			}
			lines = append(lines, strings.Join(cells, "|"))
		}
	}
	return lines
}
