package door

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// startPaused is a door for 1,000 bytes a second that hands its one connection to
// read when its client has sent so many bytes.
func startPaused(t *testing.T, n int, read func(d *Door, c net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var d *Door
		done := make(chan struct{})
		d = start(t, Config{Bytes: 1000, MQTT: func(c net.Conn) {
			defer close(done)
			c.Write(connack) // it is admitted
			read(d, c)
		}})
		p := newPipes()
		go d.Serve(p)
		c := p.connect("192.0.2.1:5")
		go io.Copy(io.Discard, c)
		go c.Write(append([]byte{mqttConnect}, make([]byte, n-1)...))
		<-done
		d.Close()
		c.Close()
	})
}

func TestBytesBeyondTheBudgetWaitAndNoneIsLost(t *testing.T) {
	startPaused(t, 10_000, func(_ *Door, c net.Conn) {
		begin := time.Now()
		if n, err := io.ReadFull(c, make([]byte, 4000)); err != nil || !time.Now().Equal(begin) {
			t.Errorf("%d bytes after %v, %v; 4,000 may come at once", n, time.Since(begin), err)
		}
		for range 6 {
			if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took < 5*time.Second || took > 7*time.Second {
			t.Errorf("10,000 bytes took %v", took)
		}
	})
}

func TestPauseEndsAtADeadlineThatIsSetMeanwhile(t *testing.T) {
	startPaused(t, 10_000, func(_ *Door, c net.Conn) {
		io.ReadFull(c, make([]byte, 4000))
		io.ReadFull(c, make([]byte, 4000)) // the next has to wait four seconds
		begin := time.Now()
		for in, set := range map[time.Duration]time.Duration{time.Second: time.Second, 0: -time.Hour} {
			begin = time.Now()
			time.AfterFunc(0, func() { c.SetReadDeadline(begin.Add(set)) })
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != in {
				t.Errorf("a deadline in %v ended the read after %v with %v", set, time.Since(begin), err)
			}
			c.SetReadDeadline(time.Time{})
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("after the deadlines: %v", err)
		}
	})
}

func TestPauseEndsWithTheConnectionAndWithTheDoor(t *testing.T) {
	for name, end := range map[string]func(*Door, net.Conn){
		"the connection": func(_ *Door, c net.Conn) { c.Close() },
		"the door":       func(d *Door, _ net.Conn) { go d.Close() },
	} {
		startPaused(t, 10_000, func(d *Door, c net.Conn) {
			io.ReadFull(c, make([]byte, 4000))
			io.ReadFull(c, make([]byte, 4000))
			begin := time.Now()
			time.AfterFunc(0, func() { end(d, c) })
			if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(begin) != 0 {
				t.Errorf("%s ended, and the read after %v with %v", name, time.Since(begin), err)
			}
		})
	}
}
