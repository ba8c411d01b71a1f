package door

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
)

var errLittleLeft = topics.Errorf(topics.Unavailable, "little is left")

// startWithLittle is a door that takes nobody while little is true.
func startWithLittle(t *testing.T, little *atomic.Bool) *pipes {
	t.Helper()
	return startBehind(t, Config{
		TLS: serverTLS(),
		Admit: func() *topics.Error {
			if little.Load() {
				return errLittleLeft
			}
			return nil
		},
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			admit, err := Hold(r)
			if err == nil {
				admit()
			}
			_, request := HoldRequest(r)
			fmt.Fprint(w, Refused(r), ", ", err, ", ", request)
		}),
	})
}

func TestConnectionThatCannotBeServedIsToldSoInsideTLSToo(t *testing.T) {
	var little atomic.Bool
	p := startWithLittle(t, &little)
	for _, want := range []struct {
		little bool
		mqtt   byte
		http   string
	}{
		{false, '1', "<nil>, <nil>, <nil>"},
		{true, 0x20, "503 unavailable: little is left, 503 unavailable: little is left, <nil>"},
		{false, '1', "<nil>, <nil>, <nil>"},
	} {
		little.Store(want.little)
		for _, secure := range []bool{false, true} {
			var c net.Conn = p.connect("198.51.100.1:5")
			c.SetDeadline(time.Now().Add(30 * time.Second))
			if secure {
				c = tls.Client(c, clientTLS())
			}
			say(c, string(connect))
			answer := make([]byte, 4)
			if _, err := io.ReadFull(c, answer); err != nil || answer[0] != want.mqtt || want.little && answer[3] != 3 {
				t.Errorf("%+v: MQTT (TLS: %v) is told % x, %v", want, secure, answer, err)
			}
			c.Close()
		}
		if body, _ := io.ReadAll(ask(t, p, "198.51.100.1:5", "").Body); string(body) != want.http {
			t.Errorf("%+v: a request is told %q", want, body)
		}
	}
}

func TestConnectionsThatWaitForAnotherRequestEndWhenLittleIsLeft(t *testing.T) {
	var little atomic.Bool
	p := startWithLittle(t, &little)
	request := func(c net.Conn) (answer *http.Response) {
		t.Helper()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		say(c, "GET / HTTP/1.1\r\nHost: beckon.test\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		return answer
	}
	kept := p.connect("198.51.100.1:5")
	defer kept.Close()
	for range 2 {
		if request(kept).Close {
			t.Fatal("a connection is not kept for another request while there is enough")
		}
	}
	little.Store(true)
	p.connect("198.51.100.2:5").Close()
	kept.SetDeadline(time.Now().Add(5 * time.Second)) // less than any limit of it
	if n, err := kept.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection that waits reads %d bytes, %v, want its end", n, err)
	}
	little.Store(false)
	again := p.connect("198.51.100.3:5")
	defer again.Close()
	if request(again).Close {
		t.Error("connections are not kept again when there is enough")
	}
}

func TestFewWaitToBeToldThatTheyCannotBeServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, Config{Admit: func() *topics.Error { return errLittleLeft }})
		p := newPipes()
		go d.Serve(p)
		for i := range 2 * refusedAtOnce {
			defer p.connect(fmt.Sprintf("192.0.2.%d:5", i)).Close()
		}
		synctest.Wait()
		d.mu.Lock()
		open := len(d.conns)
		d.mu.Unlock()
		if open != refusedAtOnce {
			t.Errorf("%d are open, want %d", open, refusedAtOnce)
		}
		d.Close()
	})
}

func TestConnectionsAreKeptWhenTheLastListenerFindsThatThereIsEnough(t *testing.T) {
	var slow atomic.Bool
	asked, overtaken := make(chan struct{}), make(chan struct{})
	d := start(t, Config{Admit: func() *topics.Error {
		if !slow.CompareAndSwap(false, true) {
			return nil
		}
		close(asked)
		select {
		case <-overtaken:
		case <-time.After(100 * time.Millisecond): // nobody may overtake it
		}
		return topics.Errorf(topics.Unavailable, "there was too little")
	}})
	kept := true
	d.keepAlive = func(keep bool) { kept = keep }
	var listeners sync.WaitGroup
	listeners.Go(func() { d.admits() })
	<-asked
	if err := d.admits(); err != nil {
		t.Error(err)
	}
	close(overtaken)
	listeners.Wait()
	if !kept {
		t.Error("connections are not kept though there is enough")
	}
}
