// Command mochi is the broker that Beckon is built on, bare: it lets anyone do
// anything, and knows nothing of rooms.
//
//	mochi ADDR ADDR    MQTT over TCP at the first, over WebSocket at the second
package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// anyone may do anything: mochi's own AllowHook, whose package brings more along.
type anyone struct{ mqtt.HookBase }

func (*anyone) ID() string { return "anyone" }
func (*anyone) Provides(event byte) bool {
	return event == mqtt.OnConnectAuthenticate || event == mqtt.OnACLCheck
}
func (*anyone) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }
func (*anyone) OnACLCheck(*mqtt.Client, string, bool) bool              { return true }

func main() {
	if len(os.Args) != 3 {
		check(fmt.Errorf("it takes two addresses, not %q", os.Args[1:]))
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	broker := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	check(broker.AddHook(new(anyone), nil))
	check(broker.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: os.Args[1]})))
	check(broker.AddListener(listeners.NewWebsocket(listeners.Config{ID: "ws", Address: os.Args[2]})))
	check(broker.Serve())
	<-stop
	check(broker.Close())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "mochi:", err)
		os.Exit(1)
	}
}
