package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/cmd/beckon/bench"
)

// row is a server by one of its doors.
type row struct {
	server contestant
	by     string // the door
	qos    int    // of the MQTT doors
}

// doorNames are those of the table.
var doorNames = map[string]string{"mqtt": "MQTT", "mqttws": "MQTT over WebSocket", "ws": "JSON over WebSocket", "peerjs": "WebSocket", "relay": "WebSocket"}

// door is what the table calls it.
func (r row) door() string {
	if !r.mqtt() {
		return doorNames[r.by]
	}
	return fmt.Sprintf("%s, QoS %d", doorNames[r.by], r.qos)
}

func (r row) mqtt() bool { return strings.HasPrefix(r.by, "mqtt") }

// can says whether the row has a figure for work, its own or that of another QoS.
func (r row) can(k work) bool { return !k.group || r.by != "peerjs" }

// does says whether it is measured for the row.
func (r row) does(k work) bool { return r.can(k) && (!k.once || r.qos == 0) }

// place is where the results of a row's work are.
func (r row) place(k work) string {
	if k.once {
		r.qos = 0
	}
	return fmt.Sprint(r.server.name, r.by, r.qos, k.name)
}

// cell is what came of one work of one row, in all rounds.
type cell struct {
	results  []*bench.Result
	failures int
}

// report is the table.
type report struct {
	rows  []row
	works []work
	cells map[string]*cell
	out   []string // names of servers that are left out
	about []string // what stands below
}

// newReport makes the rows and columns. Only are the names of servers, nil for all.
func newReport(l load, only []string) *report {
	r := &report{works: l.works(), cells: make(map[string]*cell)}
	for _, c := range lineup {
		if only != nil && !slices.Contains(only, c.name) {
			continue
		}
		for _, door := range c.doors {
			r.rows = append(r.rows, row{c, door, 0})
			if last := r.rows[len(r.rows)-1]; last.mqtt() {
				last.qos = 1
				r.rows = append(r.rows, last)
			}
		}
	}
	return r
}

// servers are those of the rows.
func (r *report) servers() (list []contestant) {
	for _, row := range r.rows {
		if len(list) == 0 || list[len(list)-1].name != row.server.name {
			list = append(list, row.server)
		}
	}
	return list
}

// leaveOut leaves a server's rows empty.
func (r *report) leaveOut(c contestant) { r.out = append(r.out, c.name) }

// takes says whether work is to be measured for row.
func (r *report) takes(row row, k work) bool {
	return row.does(k) && !slices.Contains(r.out, row.server.name)
}

// add notes what came of a work.
func (r *report) add(row row, k work, result *bench.Result, err error) {
	at := row.place(k)
	if r.cells[at] == nil {
		r.cells[at] = new(cell)
	}
	if err != nil {
		r.cells[at].failures++
		return
	}
	r.cells[at].results = append(r.cells[at].results, result)
}

// missing stands where there is no figure.
const missing = "–"

// figure is the median of a column.
func (c *cell) figure(of column) string {
	switch {
	case c == nil:
		return missing
	case len(c.results) == 0:
		return "failed"
	}
	var values []float64
	for _, result := range c.results {
		values = append(values, of.of(result))
	}
	return fmt.Sprintf(of.format, median(values))
}

// trouble is what was lost in all rounds, or failed; "" if nothing.
func (c *cell) trouble() string {
	if c == nil {
		return ""
	}
	var lost, cut, sent int64
	for _, result := range c.results {
		lost += result.Lost
		cut += result.ConnectionsLost
		sent += result.Lost + result.Delivered
	}
	var said []string
	if lost > 0 {
		said = append(said, fmt.Sprintf("%d of %d messages were lost", lost, sent))
	}
	if cut > 0 {
		said = append(said, fmt.Sprintf("%d connections were lost", cut))
	}
	if c.failures > 0 {
		said = append(said, fmt.Sprintf("%d of %d runs failed", c.failures, c.failures+len(c.results)))
	}
	return strings.Join(said, ", ")
}

// median is the middle of values, or between the two that are. It is 0 for none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// markdown is the table, and below it what went wrong, and of what it is.
func (r *report) markdown() string {
	var b strings.Builder
	line := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	head, rule := []string{"server", "door"}, []string{"---", "---"}
	for _, k := range r.works {
		for _, c := range k.columns {
			head, rule = append(head, c.title), append(rule, "--:")
		}
	}
	line(head...)
	fmt.Fprintf(&b, "|%s|\n", strings.Join(rule, "|"))
	var trouble []string
	for _, row := range r.rows {
		cells := []string{row.server.name, row.door()}
		for _, k := range r.works {
			var c *cell
			if row.can(k) {
				c = r.cells[row.place(k)]
			}
			if said := c.trouble(); said != "" && row.does(k) {
				trouble = append(trouble, fmt.Sprintf("%s, %s, %s: %s.", row.server.name, row.door(), k.name, said))
			}
			for _, of := range k.columns {
				cells = append(cells, c.figure(of))
			}
		}
		line(cells...)
	}
	for _, said := range [][]string{trouble, r.about} {
		if len(said) > 0 {
			fmt.Fprintf(&b, "\n%s\n", strings.Join(said, " "))
		}
	}
	return b.String()
}

// said is a line of progress: the figures of one result.
func said(k work, result *bench.Result, err error) string {
	if err != nil {
		return err.Error()
	}
	one := &cell{results: []*bench.Result{result}}
	var figures []string
	for _, of := range k.columns {
		figures = append(figures, of.title+" "+one.figure(of))
	}
	if trouble := one.trouble(); trouble != "" {
		figures = append(figures, trouble)
	}
	return strings.Join(figures, "; ")
}

// The marks in a file between which the table stands.
const (
	tableBegins = "<!-- compare -->\n"
	tableEnds   = "<!-- /compare -->\n"
)

// replaceTable replaces what stands between the marks.
func replaceTable(text, table string) (string, error) {
	before, rest, ok := strings.Cut(text, tableBegins)
	_, after, ended := strings.Cut(rest, tableEnds)
	if !ok || !ended {
		return "", fmt.Errorf("it has no lines %s and %s, between which the table goes", strings.TrimSpace(tableBegins), strings.TrimSpace(tableEnds))
	}
	return before + tableBegins + table + tableEnds + after, nil
}

// machine says when and on what it was measured.
func machine(now time.Time) string {
	of := func(file, key string) string {
		text, err := os.Open(file)
		if err != nil {
			return ""
		}
		defer text.Close()
		for lines := bufio.NewScanner(text); lines.Scan(); {
			name, value, ok := strings.Cut(lines.Text(), ":")
			if !ok && key == "" {
				return name
			}
			if ok && strings.TrimSpace(name) == key {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	memory, _ := strconv.Atoi(strings.TrimSuffix(of("/proc/meminfo", "MemTotal"), " kB"))
	load, _, _ := strings.Cut(of("/proc/loadavg", ""), " ")
	return fmt.Sprintf("%s, %s, %d cores, %d GiB, Linux %s, load before it %s, %s.", now.Format(time.DateOnly),
		of("/proc/cpuinfo", "model name"), runtime.NumCPU(), memory>>20, of("/proc/sys/kernel/osrelease", ""), load, runtime.Version())
}
