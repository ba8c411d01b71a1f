// Command beckon is a WebRTC signaling server: an MQTT broker and the doors
// beside it, all into the same rooms.
//
//	exit  when
//	0     it did what it was asked; serve: it was told to stop, and drained
//	1     it failed, such as for a port in use; serve: a second signal cut it off
//	2     it was asked for what cannot be: a flag, a variable, the file, a certificate
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/beckon-rtc/beckon/cmd/beckon/bench"
)

// What the program exits with.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// commands is the command line.
type commands struct {
	Serve   serve          `cmd:"" help:"Run the server."`
	Passwd  passwd         `cmd:"" help:"Add an account, or change its password."`
	Token   token          `cmd:"" help:"Make a token."`
	APIKey  apiKey         `cmd:"" name:"api-key" help:"Make a key by which tokens are made."`
	Health  health         `cmd:"" help:"Ask a server whether it is ready."`
	Bench   bench.Command  `cmd:"" help:"Put load on a server, and say what a message costs."`
	Hash    hash           `cmd:"" hidden:"" help:"Look at passwords, for the server that started it."`
	Version versionCommand `cmd:"" help:"Show the version."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program, and returns what it exits with.
func run(args []string, stdout, stderr io.Writer) (code int) {
	type exited int // how kong's --help ends the program
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(exited)
			if !ok {
				panic(p)
			}
			code = int(e)
		}
	}()
	parser, err := newParser(new(commands), kong.Writers(stdout, stderr), kong.Exit(func(c int) { panic(exited(c)) }))
	if err != nil {
		return report(stderr, err) // a mistake in the tags; the tests find it
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		code := report(stderr, usage(err))
		fmt.Fprintln(stderr, "beckon --help, and beckon serve --help, say more.")
		return code
	}
	return report(stderr, parsed.Run(output{os.Stdin, stdout, stderr}, bench.Program{Stdout: stdout, Stderr: stderr, Signer: benchSigner}))
}

// output is where a command writes to, and what it may ask.
type output struct {
	stdin          *os.File
	stdout, stderr io.Writer
}

func newParser(c *commands, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(c, append(options,
		kong.Name("beckon"),
		kong.Description("WebRTC signaling: MQTT and WebSocket clients in the same rooms."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)...)
}

// usageError is a mistake in what the program was asked for.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// report says what went wrong, a line for each mistake, and returns the exit
// code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "beckon: %s\n", strings.TrimRight(line, "\n"))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

type versionCommand struct{}

func (versionCommand) Run(out output) error {
	_, err := fmt.Fprintln(out.stdout, version())
	return err
}

// version is what the build knows of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "beckon (unknown version)"
	}
	v := "beckon " + info.Main.Version
	if info.Main.Version == "" {
		v = "beckon (devel)"
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && !strings.Contains(v, s.Value[:min(12, len(s.Value))]):
			v += " " + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true" && !strings.HasSuffix(v, "+dirty"):
			v += " modified"
		}
	}
	return v + " " + info.GoVersion
}
