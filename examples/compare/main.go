// Command compare puts the same load on Beckon and on other servers that people
// signal through, in turn, and prints what it costs as a table in Markdown, which
// README.md shows.
//
//	lineup.go   the servers: how each is got, started, and asked for its version
//	server.go   a server that runs
//	work.go     what is measured, by "beckon bench"
//	table.go    the table: rows, columns, medians
//
// Every figure comes from a process of its own, started for it and ended after it.
// The rounds are in turn, too: what else the machine does hits all alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	s, err := parseFlags(os.Args[1:])
	if err == nil {
		err = run(ctx, s, os.Stdout, os.Stderr)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

type settings struct {
	rounds int
	only   []string // names of servers; nil for all
	into   string   // file that has the table between two marks; "" for none
	load   load
}

func parseFlags(args []string) (settings, error) {
	s := settings{load: usual}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.IntVar(&s.rounds, "rounds", 3, "how often each figure is taken; the table has the medians")
	flags.DurationVar(&s.load.measured, "measure", usual.measured, "how long to measure a figure")
	only := flags.String("only", "", "servers, such as Beckon,mochi; their table is only printed")
	flags.StringVar(&s.into, "into", "README.md", "the file to put the table into; none if empty")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if *only != "" {
		s.only, s.into = strings.Split(*only, ","), ""
	}
	return s, s.check(flags.Args())
}

// check reports every mistake.
func (s *settings) check(rest []string) error {
	var wrong []error
	if len(rest) > 0 {
		wrong = append(wrong, fmt.Errorf("nothing but flags is understood, not %q", rest[0]))
	}
	if s.rounds < 1 {
		wrong = append(wrong, fmt.Errorf("-rounds %d: at least one is needed", s.rounds))
	}
	if s.load.measured < 100*time.Millisecond {
		wrong = append(wrong, fmt.Errorf("-measure %v is too short: CPU time is counted in steps of 10ms", s.load.measured))
	}
	for _, name := range s.only {
		if !slices.ContainsFunc(lineup, func(c contestant) bool { return c.name == name }) {
			wrong = append(wrong, fmt.Errorf("-only: there is no server %q", name))
		}
	}
	if s.into != "" {
		if text, err := os.ReadFile(s.into); err != nil {
			wrong = append(wrong, fmt.Errorf("-into: %w", err))
		} else if _, err := replaceTable(string(text), ""); err != nil {
			wrong = append(wrong, fmt.Errorf("-into %s: %w", s.into, err))
		}
	}
	return errors.Join(wrong...)
}

// run measures all, prints the table, and puts it into its file.
func run(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	w, err := newWorkshop(ctx, stderr)
	if err != nil {
		return err
	}
	defer w.close()
	began := time.Now()
	r := newReport(s.load, s.only)
	r.about = append([]string{machine(began)}, w.prepare(ctx, r)...)
	for round := range s.rounds {
		for _, row := range r.rows {
			for _, work := range r.works {
				if !r.takes(row, work) {
					continue
				}
				fmt.Fprintf(stderr, "%5.0fs round %d of %d: %s, %s: %s: ", time.Since(began).Seconds(), round+1, s.rounds, row.server.name, row.door(), work.name)
				result, err := w.measure(ctx, row, work)
				if ctx.Err() != nil {
					return errors.New("stopped before all was measured")
				}
				r.add(row, work, result, err)
				fmt.Fprintln(stderr, said(work, result, err))
			}
		}
	}
	table := r.markdown()
	if _, err := io.WriteString(stdout, table); err != nil || s.into == "" {
		return err
	}
	text, err := os.ReadFile(s.into)
	if err != nil {
		return err
	}
	replaced, err := replaceTable(string(text), table)
	if err != nil {
		return err
	}
	return os.WriteFile(s.into, []byte(replaced), 0o644)
}

// workshop is where programs are built and servers are run.
type workshop struct {
	root   string // of the repository
	dir    string // for what is built and written, removed in the end
	stderr io.Writer
}

func newWorkshop(ctx context.Context, stderr io.Writer) (*workshop, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, errors.New("go list finds no module: run it in Beckon's repository, as go run ./examples/compare")
	}
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		return nil, err
	}
	// Not every server keeps the rights it was started with.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	w := &workshop{root: strings.TrimSpace(string(root)), dir: dir, stderr: stderr}
	fmt.Fprintln(stderr, "building Beckon, which is the generator of the load, too")
	if _, err := w.output(ctx, w.root, "go", "build", "-o", w.program("beckon"), "./cmd/beckon"); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *workshop) close() { _ = os.RemoveAll(w.dir) }

// program is the path of a program that was built.
func (w *workshop) program(name string) string { return filepath.Join(w.dir, name) }

// own is the path of a file of this example.
func (w *workshop) own(name string) string { return filepath.Join(w.root, "examples", "compare", name) }

// prepare gets every server of the report, and returns what the table says of them:
// their versions, and which are missing.
func (w *workshop) prepare(ctx context.Context, r *report) (about []string) {
	for _, c := range r.servers() {
		fmt.Fprintf(w.stderr, "getting %s\n", c.name)
		version, err := c.get(ctx, w)
		if err != nil {
			fmt.Fprintf(w.stderr, "%s is left out: %v\n", c.name, err)
			r.leaveOut(c)
			reason, _, _ := strings.Cut(err.Error(), "\n")
			about = append(about, fmt.Sprintf("%s was left out: %s.", c.name, reason))
			continue
		}
		about = append(about, fmt.Sprintf("%s: %s.", c.name, version))
	}
	return about
}
