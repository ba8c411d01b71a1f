package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResultIsATableAndJSON(t *testing.T) {
	result := Result{
		Command: "calls", Doors: []string{"ws"}, Cameras: []string{"mqtt"}, QoS: 1, Connections: 100, Seconds: 10,
		Calls: 1000, CallsPerSecond: 100, Published: 11000, Delivered: 10999, Lost: 1, DeliveredPerSecond: 1100,
		Errors: []Fault{{480, 1, "c-1 is offline"}}, Latency: &Percentiles{P50: 0.5, P99: 2, P999: 3, Max: 4},
		CPUPerMessage: 12.34, PerConnection: 9.8,
	}
	var table bytes.Buffer
	file := filepath.Join(t.TempDir(), "result.json")
	if err := result.write(&table, file); err != nil {
		t.Fatal(err)
	}
	rows := strings.Join(strings.Fields(table.String()), " ")
	for _, want := range []string{
		"calls ws to mqtt, QoS 1", "calls/s 100.0", "lost 1", "error 480 1, the first: c-1 is offline",
		"p50 0.500 ms", "p99.9 3.000 ms", "CPU per message 12.34 us", "memory per connection 9.8 KiB",
	} {
		if !strings.Contains(rows, want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var again Result
	if err := json.Unmarshal(text, &again); err != nil || again.Delivered != 10999 || again.Latency.P999 != 3 {
		t.Errorf("the file has %s, %v", text, err)
	}
	table.Reset()
	if err := result.write(&table, "-"); err != nil || table.String() != string(text) {
		t.Errorf("on standard output stands %s, %v", &table, err)
	}
}

func TestLossIsAnError(t *testing.T) {
	for name, test := range map[string]struct {
		lost, cut int64
		want      error
	}{"nothing": {0, 0, nil}, "a message": {1, 0, errLost}, "a connection": {0, 1, errLost}} {
		r := &run{Settings: new(Settings), program: Program{Stdout: new(bytes.Buffer)}, result: Result{Lost: test.lost}}
		r.cut.Store(test.cut)
		if err := r.finish(); !errors.Is(err, test.want) {
			t.Errorf("%s lost: %v", name, err)
		}
	}
}
