package ws_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/bridge/door"
	"github.com/beckon-rtc/beckon/bridge/ws"
)

// openDoor serves behind the door, over pipes, for tests on fake time.
func openDoor(t *testing.T) *house {
	h := build(t, func(c *ws.Config) { c.Hold = door.Hold })
	d, err := door.New(door.Config{HTTP: h, MQTT: func(net.Conn) {}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := &pipes{h: h, conns: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error)
	go func() { served <- d.Serve(l) }()
	t.Cleanup(func() {
		h.Close()
		d.Close()
		<-served
	})
	h.url = "ws://beckon.example/ws"
	h.dialer.NetDialContext = l.dial
	return h
}

// The door waits for strangers for as long as the join may take, but counts from when
// they came. A client that is cut off would come back, and again; 4510 tells it not to.
func TestWhoNeverJoinsIsToldSoThroughTheDoor(t *testing.T) {
	for _, after := range []time.Duration{0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			h := openDoor(t)
			dial := h.dialer.NetDialContext
			h.dialer.NetDialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				time.Sleep(after) // fake time: TLS, say
				return c, err
			}
			c, began := h.dial(t), time.Now()
			if why := c.closed(4510); why != "no join came within 10s" {
				t.Errorf("why: %s", why)
			}
			if took := time.Since(began); took != 10*time.Second-after {
				t.Errorf("after %v", took)
			}
		})
	}
}
