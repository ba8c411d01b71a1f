package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Run is the command: it serves until SIGINT or SIGTERM.
func (s *serve) Run(out output) error {
	defer runtime.KeepAlive(ballast(debug.SetMemoryLimit(-1)))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals, reload := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(reload, syscall.SIGHUP)
	var obeying sync.WaitGroup
	obeying.Go(func() {
		obey(signals, stop, func() {
			fmt.Fprintln(out.stderr, "beckon: a second signal: leaving at once")
			os.Exit(exitFailed)
		})
	})
	defer func() {
		signal.Stop(signals)
		signal.Stop(reload)
		close(signals)
		obeying.Wait()
	}()
	return s.serve(ctx, out.stderr, reload, nil)
}

// obey stops the server at the first signal, and leaves at the second. It ends
// with the signals.
func obey(signals <-chan os.Signal, stop, leave func()) {
	if _, ok := <-signals; !ok {
		return
	}
	stop()
	if _, ok := <-signals; ok {
		leave()
	}
}

// serve runs the server until ctx is done, and drains it then. At each reload it
// reads its files again. It calls ready, which may be nil, with the addresses
// when it takes connections.
func (s *serve) serve(ctx context.Context, stderr io.Writer, reload <-chan os.Signal, ready func([]net.Addr)) error {
	if err := s.check(); err != nil {
		return usage(err)
	}
	listeners, err := listen(s.Listen)
	if err != nil {
		return err
	}
	h, err := s.house(stderr)
	if err != nil {
		closeAll(listeners)
		return err
	}
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() { h.door.Serve(l) })
	}
	if s.Dev {
		fmt.Fprintln(stderr, "WARNING: --dev lets anyone on this machine in, without credentials, under any name and into any room. "+
			"It is for trying things out: put no proxy in front of it.")
	}
	addrs := addresses(listeners)
	if open := s.inTheClear(addrs); open != nil {
		fmt.Fprintf(stderr, "WARNING: passwords and tokens can come unencrypted over the network to %s, for everyone on the way to read. "+
			"Configure TLS (--tls-cert and --tls-key, or --acme) and --tls-only, or listen on loopback, behind a proxy that takes TLS.\n", strings.Join(open, ", "))
	}
	fmt.Fprintln(stderr, readyLine(addrs, s.any(), s.TLSOnly))
	if ready != nil {
		ready(addrs)
	}
	life, end := context.WithCancel(context.Background())
	defer end()
	var living sync.WaitGroup
	living.Go(func() { h.live(life, reload) })
	<-ctx.Done()

	h.draining.Store(true) // the listeners stay open, for /readyz to say so
	most := s.Drain
	if s.Dev {
		most = min(most, time.Second) // no crowd that must not come back all at once
	}
	h.log.Info("stopping", "at most", most)
	limit, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	h.drain(limit)
	end() // until here files are read again, and who is revoked goes
	living.Wait()
	closeAll(listeners)
	err = h.close()
	serving.Wait()
	return err
}
