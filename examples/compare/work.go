package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/beckon-rtc/beckon/cmd/beckon/bench"
)

// load is how much there is of the work.
type load struct {
	pairs, rate, receivers, window, connections int
	measured, warmup, hold                      time.Duration
}

// usual is the load of the table in README.md: three rounds of it take about
// eleven minutes.
var usual = load{
	pairs: 50, rate: 300, receivers: 200, window: 16, connections: 4000,
	measured: 1200 * time.Millisecond, warmup: 500 * time.Millisecond, hold: 500 * time.Millisecond,
}

// work is a run of "beckon bench", and the columns that it fills.
type work struct {
	name    string
	args    []string
	columns []column
	once    bool // for a door: QoS makes no difference
	group   bool // speaks to many
}

// column is a column of figures.
type column struct {
	title  string
	format string
	of     func(*bench.Result) float64
}

// works is what is measured, in the table's order.
func (l load) works() []work {
	timed := []string{"--duration=" + l.measured.String(), "--warmup=" + l.warmup.String()}
	calls := append([]string{"calls", "--pairs=" + strconv.Itoa(l.pairs), "--size=2048"}, timed...)
	fanout := append([]string{"fanout", "--receivers=" + strconv.Itoa(l.receivers), "--size=200"}, timed...)
	idle := []string{"idle", "--connections=" + strconv.Itoa(l.connections), "--connect-rate=4000", "--hold=" + l.hold.String()}
	with := func(args []string, more string) []string { return append(slices.Clone(args), more) }
	cpu := func(r *bench.Result) float64 { return r.CPUPerMessage }
	return []work{
		{name: "calls", args: calls, columns: []column{
			{"calls/s", "%.0f", func(r *bench.Result) float64 { return r.CallsPerSecond }},
			{"CPU per message, µs", "%.1f", cpu},
		}},
		{name: "calls at a rate", args: with(calls, "--rate="+strconv.Itoa(l.rate)), columns: []column{
			{fmt.Sprintf("p99 at %d calls/s, ms", l.rate), "%.1f", func(r *bench.Result) float64 {
				if r.Latency == nil {
					return 0
				}
				return r.Latency.P99
			}},
		}},
		{name: "fan-out, one by one", group: true, args: with(fanout, "--window=1"), columns: []column{
			{fmt.Sprintf("1 to %d, one by one: CPU, µs", l.receivers), "%.1f", cpu},
		}},
		{name: "fan-out", group: true, args: with(fanout, "--window="+strconv.Itoa(l.window)), columns: []column{
			{fmt.Sprintf("%d on their way: CPU, µs", l.window), "%.1f", cpu},
			{"deliveries/s", "%.0f", func(r *bench.Result) float64 { return r.DeliveredPerSecond }},
		}},
		{name: "idle", once: true, args: idle, columns: []column{
			{"memory per connection, KiB", "%.1f", func(r *bench.Result) float64 { return r.PerConnection }},
		}},
	}
}

// cellTime is how long a run of beckon bench may take at most.
const cellTime = 2 * time.Minute

// measure starts the row's server, puts the load on it, and ends it.
func (w *workshop) measure(ctx context.Context, r row, k work) (*bench.Result, error) {
	s, err := w.start(ctx, r.server)
	if err != nil {
		return nil, fmt.Errorf("%s did not start: %w", r.server.name, err)
	}
	defer s.end()
	ctx, cancel := context.WithTimeout(ctx, cellTime)
	defer cancel()
	command := exec.CommandContext(ctx, w.program("beckon"), append([]string{"bench"}, append(k.args,
		"--server="+s.at.tcp, "--mqttws=ws://"+s.at.ws+"/mqtt", "--door="+r.by, "--qos="+strconv.Itoa(r.qos),
		"--pid="+strconv.Itoa(s.pid), "--quiet", "--json=-")...)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = stopTime
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, failure := command.Output()
	result := new(bench.Result)
	if err := json.Unmarshal(out, result); err != nil {
		// What it failed of comes before what it lost by that.
		return nil, errors.Join(failure, errors.New(strings.TrimSpace(stderr.String())))
	}
	return result, nil // what was lost is in it
}
