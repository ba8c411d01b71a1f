// Command camera is a camera without a lens: it sits in a room on an MQTT
// broker, answers whoever calls, and shows them a test picture.
//
// Read it in this order: link.go (MQTT: subscribe, say who I am), camera.go
// (whose message is it), call.go (one viewer), video.go (the picture).
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

//go:embed testsrc.ivf
var testPicture []byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "camera:", err)
		os.Exit(1)
	}
}

// run is the camera from its flags to its end: nil when ctx is cancelled.
func run(ctx context.Context, args []string, out io.Writer) error {
	settings, err := parseFlags(args)
	if err != nil {
		return err
	}
	video, err := readVideo(bytes.NewReader(settings.picture))
	if err != nil {
		return fmt.Errorf("the video: %w", err)
	}
	say := lines(out)
	link, err := newLink(settings.link, say)
	if err != nil {
		return err
	}
	camera, err := newCamera(settings.trickle, link.send, say)
	if err != nil {
		return err
	}

	playing, stopPlaying := context.WithCancel(context.Background())
	var picture sync.WaitGroup
	picture.Go(func() { video.play(playing, camera.track) })
	defer picture.Wait()
	defer stopPlaying()

	err = link.run(ctx, camera.handle)
	// Order matters: whoever watches hears "bye" before the room hears that
	// the camera is gone.
	camera.close()
	link.close()
	return err
}

// lines writes one line per event, from many goroutines.
func lines(out io.Writer) func(format string, args ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
}

// settings is what the flags come to.
type settings struct {
	link    linkConfig
	trickle bool
	picture []byte // an IVF file
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func parseFlags(args []string) (settings, error) {
	flags := flag.NewFlagSet("camera", flag.ContinueOnError)
	var (
		broker   = flags.String("broker", "tcp://127.0.0.1:1883", "the broker: tcp://, ssl:// or ws://host:port/mqtt")
		root     = flags.String("root", "rtc", "the topic root")
		room     = flags.String("room", "garage", "the room to be in")
		peer     = flags.String("peer", "cam1", "the name of this camera in the room")
		name     = flags.String("name", "Front door", "its name for people")
		user     = flags.String("user", "", "the MQTT user name (default: the peer's name)")
		password = flags.String("password-file", "", "a file that holds the password")
		ca       = flags.String("ca", "", "a PEM file with the CA of an ssl:// or wss:// broker")
		offers   = flags.Bool("offers", false, "this camera makes the offers: viewers send it `start`")
		whole    = flags.Bool("no-trickle", false, "send one description with all candidates in it")
		max      = flags.Int("max", 0, "the longest message, in bytes, that this camera takes (0: says nothing)")
		file     = flags.String("file", "", "an IVF file with VP8 to play instead of the test picture")
	)
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}

	s := settings{trickle: !*whole, picture: testPicture}
	s.link = linkConfig{broker: *broker, root: strings.Trim(*root, "/"), room: *room, peer: *peer, user: *user}
	s.link.presence = presence{
		Online: true, Role: "camera", Name: *name, Offers: *offers, Trickle: !*whole,
		Max: *max, Codecs: []string{"VP8"}, Info: map[string]any{},
	}
	if s.link.user == "" {
		s.link.user = *peer
	}

	var mistakes []error
	if flags.NArg() > 0 {
		mistakes = append(mistakes, fmt.Errorf("nothing but flags is understood, not %q", flags.Arg(0)))
	}
	if !validName.MatchString(*room) {
		mistakes = append(mistakes, fmt.Errorf("--room %q is not a name", *room))
	}
	if !validName.MatchString(*peer) {
		mistakes = append(mistakes, fmt.Errorf("--peer %q is not a name", *peer))
	}
	if *password != "" {
		secret, err := os.ReadFile(*password)
		mistakes = append(mistakes, err)
		s.link.password = strings.TrimRight(string(secret), "\r\n")
	}
	if *ca != "" {
		var err error
		s.link.ca, err = os.ReadFile(*ca)
		mistakes = append(mistakes, err)
	}
	if *file != "" {
		var err error
		s.picture, err = os.ReadFile(*file)
		mistakes = append(mistakes, err)
	}
	return s, errors.Join(mistakes...)
}
