package bench

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// doorkeeper stands before a broker: no connection but the first gets any further
// until that one has pinged.
func doorkeeper(t *testing.T, broker string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pinged := make(chan struct{})
	ping := sync.OnceFunc(func() { close(pinged) })
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { l.Close() })
	running.Go(func() {
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer client.Close()
				if n > 0 {
					<-pinged
				}
				server, err := net.Dial("tcp", broker)
				if err != nil {
					return
				}
				running.Go(func() {
					io.Copy(client, server)
					client.Close()
				})
				defer server.Close()
				for b := make([]byte, 4096); ; {
					got, err := client.Read(b)
					if err != nil {
						return
					}
					if bytes.Equal(b[:got], pingreq) {
						ping()
					}
					server.Write(b[:got])
				}
			})
		}
	})
	late := time.AfterFunc(10*time.Second, func() {
		t.Error("the first connection does not ping")
		ping()
	})
	t.Cleanup(func() { late.Stop() })
	return l.Addr().String()
}

func TestConnectionsAreKeptWhileOthersAreStillBeingMade(t *testing.T) {
	var table bytes.Buffer
	idle := Idle{Connections: 2, Settings: Settings{
		Target: Target{Server: doorkeeper(t, plainBroker(t)), Root: "rtc"}, Door: []string{doorMQTT}, Timeout: 8 * time.Second, Quiet: true,
	}}
	if err := idle.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Run(Program{Stdout: &table, Stderr: &table}); err != nil {
		t.Errorf("%v\n%s", err, &table)
	}
}
