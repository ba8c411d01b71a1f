package door

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/beckon-rtc/beckon/bridge"
)

func TestAnEagerWriteAdmitsAsAWriteDoes(t *testing.T) {
	waiting := make(chan int)
	var d *Door
	d = start(t, Config{TLS: serverTLS(), MQTT: func(c net.Conn) {
		defer c.Close()
		eager := c.(interface{ Eager() func([]byte) int }).Eager()
		if eager == nil {
			waiting <- -1
			return
		}
		eager(connack)
		d.mu.Lock()
		n := d.waiting
		d.mu.Unlock()
		waiting <- n
	}})
	addr := listen(t, d)

	c := dial(t, addr)
	c.Write(connect)
	if n := <-waiting; n == -1 && bridge.Eager(c) != nil {
		t.Error("a plain connection has no eager write")
	} else if n > 0 {
		t.Error("it still waits for its first write")
	}
	if _, err := io.ReadFull(c, make([]byte, len(connack))); bridge.Eager(c) != nil && err != nil {
		t.Error(err)
	}

	tls.Client(dial(t, addr), clientTLS()).Write(connect)
	if n := <-waiting; n != -1 {
		t.Error("a connection over TLS has an eager write, though its records have to be whole")
	}
}
