package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is what a run found, and its JSON. What does not apply is absent.
type Result struct {
	Command     string   `json:"command"`
	Doors       []string `json:"doors"` // in calls, of the viewers
	Cameras     []string `json:"cameras,omitempty"`
	QoS         int      `json:"qos"`
	Connections int      `json:"connections"`

	ConnectSeconds float64 `json:"connect_seconds"` // until all had joined
	Seconds        float64 `json:"seconds"`         // measured

	Calls          int64   `json:"calls,omitempty"`
	CallsPerSecond float64 `json:"calls_per_second,omitempty"`
	Failed         int64   `json:"failed,omitempty"` // calls, or attempts to come back

	Published          int64   `json:"published,omitempty"` // of the whole run, as the next four
	Delivered          int64   `json:"delivered,omitempty"`
	Lost               int64   `json:"lost"`
	Doubled            int64   `json:"doubled"`
	Disordered         int64   `json:"disordered"`
	DeliveredPerSecond float64 `json:"delivered_per_second,omitempty"`
	ConnectionsLost    int64   `json:"connections_lost"`
	Errors             []Fault `json:"errors,omitempty"`

	Latency     *Percentiles `json:"latency_ms,omitempty"`
	BackSeconds float64      `json:"back_seconds,omitempty"` // of storm: until all were back

	CPUSeconds       float64 `json:"server_cpu_seconds,omitempty"`           // measured
	CPUPerMessage    float64 `json:"server_cpu_us_per_message,omitempty"`    // see the package
	CPUPerConnection float64 `json:"server_cpu_us_per_connection,omitempty"` // of storm: to come back; of idle: a second
	Resident         float64 `json:"server_resident_kib,omitempty"`          // at the end
	PerConnection    float64 `json:"server_kib_per_connection,omitempty"`    //
	GeneratorCPU     float64 `json:"generator_cpu_seconds,omitempty"`        // of this process, measured

	resident int64 // of the server before any connection, bytes
}

// before notes what the server takes without load.
func (s *Result) before(r *run) (err error) {
	if r.server != nil {
		s.resident, err = r.server.resident()
	}
	return err
}

// connected notes what the server's memory is with all connections.
func (s *Result) connected(r *run) error {
	if r.server == nil {
		return nil
	}
	now, err := r.server.resident()
	if err != nil {
		return err
	}
	s.Resident = float64(now) / 1024
	s.PerConnection = float64(now-s.resident) / 1024 / float64(s.Connections)
	return nil
}

// measure is the time in which CPU time and messages are counted.
type measure struct {
	r      *run
	began  time.Time
	got    int64
	server time.Duration
	own    time.Duration
}

func (r *run) measure() (m measure, err error) {
	m = measure{r: r, began: time.Now(), got: r.totals().got, own: ownCPU()}
	if r.server != nil {
		m.server, err = r.server.cpu()
	}
	return m, err
}

// took notes how long it was measured, before the last messages are waited for.
func (m *measure) took() { m.r.result.Seconds = time.Since(m.began).Seconds() }

// end fills in what was measured, and what became of all messages, each of which
// was to be delivered copies times.
func (m *measure) end(copies int64) error {
	s, t := &m.r.result, m.r.totals()
	got := t.got - m.got
	s.GeneratorCPU = (ownCPU() - m.own).Seconds()
	if m.r.server != nil {
		now, err := m.r.server.cpu()
		if err != nil {
			return err
		}
		s.CPUSeconds = (now - m.server).Seconds()
		if got > 0 {
			s.CPUPerMessage = s.CPUSeconds * 1e6 / float64(got)
		}
	}
	if s.Seconds > 0 {
		s.DeliveredPerSecond = float64(got) / s.Seconds
	}
	s.Published, s.Delivered, s.Doubled, s.Disordered = t.sent, t.got, t.doubled, t.disordered
	s.Lost = t.sent*copies - t.got
	s.Latency = m.r.latency.percentiles()
	return nil
}

// finish shows the result. The error tells of a loss.
func (r *run) finish() error {
	s := &r.result
	s.ConnectionsLost, s.Errors = r.cut.Load(), r.faults.all()
	if err := s.write(r.program.Stdout, r.JSON); err != nil {
		return err
	}
	if s.Lost > 0 || s.ConnectionsLost > 0 {
		return fmt.Errorf("%w: %d messages, %d connections", errLost, s.Lost, s.ConnectionsLost)
	}
	return nil
}

// write writes the table, and the JSON to a file, or in place of the table.
func (s *Result) write(stdout io.Writer, file string) error {
	if file != "" {
		text, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}
		text = append(text, '\n')
		if file == "-" {
			_, err = stdout.Write(text)
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return fmt.Errorf("the result: %w", err)
		}
	}
	return s.table(stdout)
}

func (s *Result) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, values...)...)
	}
	some := func(name, format string, value float64) {
		if value != 0 {
			row(name, format, value)
		}
	}
	doors := strings.Join(s.Doors, ",")
	if s.Cameras != nil {
		doors += " to " + strings.Join(s.Cameras, ",")
	}
	row(s.Command, "%s, QoS %d", doors, s.QoS)
	row("connections", "%d, joined within %.1f s", s.Connections, s.ConnectSeconds)
	row("measured", "%.1f s", s.Seconds)
	some("calls/s", "%.1f", s.CallsPerSecond)
	some("failed", "%.0f", float64(s.Failed))
	if s.Published > 0 {
		row("published", "%d", s.Published)
		row("delivered", "%d, %.0f a second", s.Delivered, s.DeliveredPerSecond)
		row("lost", "%d", s.Lost)
		row("doubled", "%d", s.Doubled)
		row("disordered", "%d", s.Disordered)
	}
	row("connections lost", "%d", s.ConnectionsLost)
	for _, e := range s.Errors {
		row(fmt.Sprintf("error %d", e.Code), "%d, the first: %s", e.Count, e.First)
	}
	some("all back after", "%.2f s", s.BackSeconds)
	if p := s.Latency; p != nil {
		row("p50", "%.3f ms", p.P50)
		row("p99", "%.3f ms", p.P99)
		row("p99.9", "%.3f ms", p.P999)
		row("longest", "%.3f ms", p.Max)
	}
	some("CPU per message", "%.2f us", s.CPUPerMessage)
	if s.Command == "idle" {
		some("CPU per connection", "%.2f us a second", s.CPUPerConnection)
	} else {
		some("CPU per connection", "%.1f us", s.CPUPerConnection)
	}
	some("CPU of the server", "%.2f s", s.CPUSeconds)
	some("memory per connection", "%.1f KiB", s.PerConnection)
	some("memory of the server", "%.0f KiB", s.Resident)
	some("CPU of this generator", "%.2f s", s.GeneratorCPU)
	return t.Flush()
}
