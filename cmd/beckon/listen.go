package main

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// listen opens all addresses, or none.
func listen(addrs []string) ([]net.Listener, error) {
	var open []net.Listener
	var wrong []error
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			wrong = append(wrong, explain(addr, err))
			continue
		}
		open = append(open, l)
	}
	if len(wrong) > 0 {
		closeAll(open)
		return nil, errors.Join(wrong...)
	}
	return open, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// explain says why an address cannot be listened on, and what to do.
func explain(addr string, err error) error {
	_, port, _ := net.SplitHostPort(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		who := "lsof -nP -iTCP:" + port + " -sTCP:LISTEN"
		if runtime.GOOS == "linux" {
			who = "ss -ltnp 'sport = :" + port + "'"
		}
		return fmt.Errorf("cannot listen on %s: the port is in use; choose another with --listen, or see who has it: %s", addr, who)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s: ports below 1024 need a privilege; choose another with --listen", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot listen on %s: this machine does not have that address; choose another with --listen", addr)
	default:
		return fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
}

func addresses(listeners []net.Listener) []net.Addr {
	var addrs []net.Addr
	for _, l := range listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// readyLine is what supervisors and tests wait for.
func readyLine(addrs []net.Addr, tls, only bool) string {
	protocols, scheme := "mqtt+http+ws", "http"
	switch {
	case only:
		protocols, scheme = "mqtt+http+ws, with tls only,", "https"
	case tls:
		protocols, scheme = "mqtt+http+ws, with and without tls,", "https"
	}
	var on []string
	for _, a := range addrs {
		on = append(on, a.String())
	}
	return fmt.Sprintf("ready %s on %s; page %s://%s/", protocols, strings.Join(on, ", "), scheme, pageHost(addrs))
}

// pageHost is where to point a browser: a port that is not MQTT's own, if there
// is one.
func pageHost(addrs []net.Addr) string {
	mqtt := func(a net.Addr) bool {
		return strings.HasSuffix(a.String(), ":1883") || strings.HasSuffix(a.String(), ":8883")
	}
	at := max(0, slices.IndexFunc(addrs, func(a net.Addr) bool { return !mqtt(a) }))
	host, port, _ := net.SplitHostPort(addrs[at].String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
