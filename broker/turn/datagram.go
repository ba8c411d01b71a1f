package turn

import (
	"errors"
	"net"
)

// datagrams is the UDP socket that clients talk to, as pion reads and writes it.
type datagrams struct {
	*net.UDPConn
	relays *relays
}

// ReadFrom returns the next datagram that is a frame. An error ends pion's loop
// for good, so only that of the closed socket is returned, or one that stays.
func (d *datagrams) ReadFrom(p []byte) (int, net.Addr, error) {
	for failures := 0; ; {
		n, from, err := d.UDPConn.ReadFrom(p)
		switch {
		case errors.Is(err, net.ErrClosed):
			return 0, nil, err
		case err != nil:
			if failures++; failures > 1000 {
				return 0, nil, err
			}
		case sound(p[:n]):
			return n, from, nil
		}
	}
}

// WriteTo notes how long an allocation lasts.
func (d *datagrams) WriteTo(p []byte, to net.Addr) (int, error) {
	noteLifetime(d.relays, p, to, d.LocalAddr())
	return d.UDPConn.WriteTo(p, to)
}

func noteLifetime(t *relays, answer []byte, client, server net.Addr) {
	if granted, ok := lifetime(answer); ok {
		if r := t.of(newConnection(client, server)); r != nil {
			r.kept(granted)
		}
	}
}
