// Command integrator shows what a fleet monitor or a home automation gets from
// the signaling topics: who comes and goes in each room, and what becomes of
// each call. It only listens. watch.go is the part to take home.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const patience = 10 * time.Second // for a broker that does not acknowledge

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "integrator:", err)
		os.Exit(1)
	}
}

type settings struct {
	broker, root, room string
	user, password     string
	ca                 []byte // PEM; nil: the system's
}

func parseFlags(args []string) (settings, error) {
	flags := flag.NewFlagSet("integrator", flag.ContinueOnError)
	var s settings
	flags.StringVar(&s.broker, "broker", "tcp://127.0.0.1:1883", "the broker: tcp://, ssl:// or ws://host:port/mqtt")
	flags.StringVar(&s.root, "root", "rtc", "the topic root")
	flags.StringVar(&s.room, "room", "+", "one room, or + for all")
	flags.StringVar(&s.user, "user", "observer", "the MQTT user name; it must be granted to observe the room")
	password := flags.String("password-file", "", "a file that holds the password")
	ca := flags.String("ca", "", "a PEM file with the CA of an ssl:// or wss:// broker")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("nothing but flags is understood, not %q", flags.Arg(0))
	}
	s.root = strings.Trim(s.root, "/")
	var wrong error
	if *password != "" {
		secret, err := os.ReadFile(*password)
		wrong = errors.Join(wrong, err)
		s.password = strings.TrimRight(string(secret), "\r\n")
	}
	if *ca != "" {
		var err error
		s.ca, err = os.ReadFile(*ca)
		wrong = errors.Join(wrong, err)
	}
	return s, wrong
}

// run watches until ctx is done (nil) or the broker says that it may not.
func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parseFlags(args)
	if err != nil {
		return err
	}
	o, err := options(s)
	if err != nil {
		return err
	}

	// paho calls the handler for one message after the other, so the watch
	// needs no lock; its goroutine only writes lines.
	watch := newWatch(s.root)
	heard := func(_ mqtt.Client, m mqtt.Message) {
		now := time.Now()
		for _, line := range watch.hear(now, m.Topic(), m.Payload()) {
			fmt.Fprintln(out, now.Format(time.TimeOnly), line)
		}
	}
	fatal := make(chan error, 1)
	o.SetOnConnectHandler(func(client mqtt.Client) { // on each connection anew: paho does not
		if err := subscribe(client, s, heard); err != nil {
			select {
			case fatal <- err:
			default:
			}
		}
	})
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		fmt.Fprintf(os.Stderr, "integrator: the broker is lost (%v), trying to come back\n", err)
	})

	client := mqtt.NewClient(o)
	client.Connect() // goes on trying by itself
	defer client.Disconnect(250)
	select {
	case <-ctx.Done():
		return nil
	case err := <-fatal:
		return err
	}
}

func options(s settings) (*mqtt.ClientOptions, error) {
	o := mqtt.NewClientOptions().AddBroker(s.broker)
	if len(o.Servers) == 0 || o.Servers[0].Host == "" {
		return nil, fmt.Errorf("the broker's address %q is not like tcp://host:1883", s.broker)
	}
	// Identity comes from the user name; the client id only has to be unique.
	o.SetClientID(fmt.Sprintf("%s-%d", s.user, os.Getpid())).SetUsername(s.user).SetPassword(s.password)
	o.SetProtocolVersion(4).SetCleanSession(true)
	o.SetKeepAlive(20 * time.Second).SetConnectTimeout(patience)
	o.SetAutoReconnect(true).SetMaxReconnectInterval(5 * time.Second)
	o.SetConnectRetry(true).SetConnectRetryInterval(2 * time.Second)

	var before string // an attempt fails every few seconds: say it once
	o.SetConnectionNotificationHandler(func(_ mqtt.Client, n mqtt.ConnectionNotification) {
		if n, ok := n.(mqtt.ConnectionNotificationFailed); ok && n.Reason.Error() != before {
			before = n.Reason.Error()
			fmt.Fprintf(os.Stderr, "integrator: %s does not let us in (%v), trying again\n", s.broker, n.Reason)
		}
	})

	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.ca != nil {
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(s.ca) {
			return nil, errors.New("--ca holds no certificate")
		}
	}
	return o.SetTLSConfig(secure), nil
}

// subscribe listens to presence first, so that a call comes after its peers.
func subscribe(client mqtt.Client, s settings, heard mqtt.MessageHandler) error {
	base := s.root + "/v1/" + s.room
	for _, filter := range []string{base + "/peers/+", base + "/to/+/+"} {
		token := client.Subscribe(filter, 1, heard)
		if !token.WaitTimeout(patience) {
			return fmt.Errorf("%s does not acknowledge a subscription", s.broker)
		}
		// The answer is in the result: not every refusal is an error to paho.
		if code, ok := token.(*mqtt.SubscribeToken).Result()[filter]; ok && code > 2 {
			return fmt.Errorf("%s refuses %q (0x%x): user %q is not granted to observe it", s.broker, filter, code, s.user)
		}
		if token.Error() != nil {
			return nil // the connection broke; the next one tries again
		}
	}
	return nil
}
