package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// Command is the subcommands of "beckon bench", for kong.
type Command struct {
	Calls  Calls  `cmd:"" help:"Pairs call each other: an offer, an answer, 4 candidates each way, a bye."`
	Fanout Fanout `cmd:"" help:"One peer speaks to all others in its room."`
	Idle   Idle   `cmd:"" help:"Connections that have joined and say nothing."`
	Storm  Storm  `cmd:"" help:"All connections are cut at once, and come back."`
}

// Help is what "beckon bench --help" says beyond the subcommands.
func (*Command) Help() string {
	return `A load generator for Beckon, or any MQTT broker. The exit code is 1 when a message or a connection was lost.

CPU per message, with --pid: user and system time of the server while it was measured, over the messages delivered in that time; in calls one for each publish, in fanout one for each receiver. Memory per connection: resident memory after all have joined (idle: at the end), less that before, over the connections.

A Beckon server needs --dev or --jwt-key, and --limit-rate 0 --limit-bytes 0 for load that is flat out: otherwise its budgets of messages and bytes are measured. A plain broker takes the doors mqtt and mqttws. To compare with, peerjs is the door of a PeerJS server, and relay that of a WebSocket server that hands every frame on to all others in the room, which is the path of its URL.`
}

// Program is what the subcommands need of the program around them.
type Program struct {
	Stdout, Stderr io.Writer
	// Signer makes tokens with the key in a file: for a peer of that name, in rooms
	// which that pattern matches.
	Signer func(keyFile string) (func(name, rooms string) (string, error), error)
}

// Settings are those of every subcommand.
type Settings struct {
	Target `group:"Server:"`

	Door        []string      `help:"Doors, of ${enum}: the connections take them in turn." enum:"mqtt,mqttws,ws,peerjs,relay" default:"ws"`
	QoS         byte          `name:"qos" help:"QoS of the MQTT doors, 0 or 1." default:"1"`
	ConnectRate int           `help:"Connections made a second. 0: as fast as can be." default:"1000"`
	Timeout     time.Duration `help:"When what did not arrive is lost." default:"5s"`
	PID         int           `name:"pid" help:"Process of the server, to see what it takes." placeholder:"PID"`
	JSON        string        `name:"json" help:"Write the result to this file; - for standard output, in place of the table." placeholder:"FILE"`
	Quiet       bool          `help:"No progress on standard error."`
}

// check reports every mistake.
func (s *Settings) check() error {
	var wrong []error
	if s.QoS > 1 {
		wrong = append(wrong, fmt.Errorf("--qos %d is neither 0 nor 1", s.QoS))
	}
	for _, door := range []string{doorPeerJS, doorRelay} {
		if slices.Contains(s.Door, door) && len(s.Door) > 1 {
			wrong = append(wrong, fmt.Errorf("--door %s is that of another server, and stands alone", door))
		}
	}
	if s.ConnectRate < 0 {
		wrong = append(wrong, errors.New("--connect-rate is negative"))
	}
	if s.Timeout <= 0 {
		wrong = append(wrong, errors.New("--timeout is not positive"))
	}
	return errors.Join(append(wrong, s.Target.check())...)
}

// positive is the check of numbers that must be.
func positive(flag string, n int) error {
	if n <= 0 {
		return fmt.Errorf("--%s is not positive", flag)
	}
	return nil
}

// notNegative is the check of times and numbers that may be 0.
func notNegative[N int | time.Duration](flag string, n N) error {
	if n < 0 {
		return fmt.Errorf("--%s is negative", flag)
	}
	return nil
}

// interruptible is a context that ends with the first signal to stop, after which
// the result so far is shown; the second ends the program.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
