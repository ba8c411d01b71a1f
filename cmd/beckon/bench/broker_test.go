package bench

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// anyone may do anything.
type anyone struct{ mqtt.HookBase }

func (*anyone) Provides(event byte) bool {
	return event == mqtt.OnConnectAuthenticate || event == mqtt.OnACLCheck
}
func (*anyone) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }
func (*anyone) OnACLCheck(*mqtt.Client, string, bool) bool              { return true }

// plainBroker is an MQTT broker that knows nothing of rooms.
func plainBroker(t *testing.T) (addr string) {
	t.Helper()
	broker := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := broker.AddHook(new(anyone), nil); err != nil {
		t.Fatal(err)
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := broker.AddListener(tcp); err != nil {
		t.Fatal(err)
	}
	if err := broker.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	return tcp.Address()
}

func TestPlainBrokerCarriesCallsAndFanout(t *testing.T) {
	var table bytes.Buffer
	program := Program{Stdout: &table, Stderr: &table}
	settings := func() Settings {
		return Settings{Target: Target{Server: plainBroker(t), Root: "rtc"}, Door: []string{doorMQTT}, Timeout: 5 * time.Second, Quiet: true}
	}
	calls := Calls{Settings: settings(), Pairs: 2, Size: 2048, Duration: 100 * time.Millisecond}
	fanout := Fanout{Settings: settings(), Receivers: 3, Window: 4, Size: 200, Duration: 100 * time.Millisecond}
	for _, command := range []interface {
		Validate() error
		Run(Program) error
	}{&calls, &fanout} {
		if err := command.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := command.Run(program); err != nil {
			t.Errorf("%v\n%s", err, &table)
		}
	}
}
