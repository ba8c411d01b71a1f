package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// There are no nodes that speak with each other yet. What can be shown until then
// is that nobody is taken for one, and that what others join by bridges does not
// let a message go round.

// remote is a server that mosquitto bridges to, and what it bridges.
type remote struct {
	s      *testServer
	topics []string // such as "home/# both 1"
}

// startBridge starts a mosquitto that is a bridge between servers, in an account of
// each. The bridge stands when connected returns: mosquitto takes some seconds.
func startBridge(t *testing.T, account string, to ...remote) (log *logs, connected func()) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // where Debian has it, and not everybody's PATH
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no mosquitto")
		}
		t.Skip("there is no mosquitto")
	}
	_, port, _ := net.SplitHostPort(freePort(t))
	var config strings.Builder
	fmt.Fprintf(&config, "listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest stderr\nlog_type all\n", port)
	for i, r := range to {
		fmt.Fprintf(&config, "connection %c\naddress %s\nremote_username %s\nremote_password %s\nremote_clientid relay%d-%s\n"+
			"notifications false\ntry_private true\ncleansession true\nrestart_timeout 1\n", 'a'+i, r.s.MQTT, account, alicePwd, i, port)
		for _, topic := range r.topics {
			fmt.Fprintf(&config, "topic %s\n", topic)
		}
	}
	out := new(logs)
	m := exec.Command(path, "-c", writeFile(t, "mosquitto.conf", config.String()))
	m.Stdout, m.Stderr = out, out
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.Process.Kill()
		_ = m.Wait()
		if t.Failed() {
			t.Logf("log of mosquitto:\n%.6000s", out)
		}
	})
	return out, func() {
		n := 0
		for _, r := range to {
			n += len(r.topics)
		}
		eventually(t, "the bridge to be connected", func() bool { return strings.Count(out.String(), "Received SUBACK") >= n })
	}
}

// startRing starts servers that know the same accounts.
func startRing(t *testing.T, n int, role string, args ...string) (ring []*site) {
	users := writeFile(t, "users.yaml", strings.NewReplacer("HASH", cheapHash(alicePwd), "ROLE", role).Replace(`
- {name: alice, password: "HASH", rooms: [garage, attic], topics: [{publish: "home/#"}, {subscribe: "home/#"}]}
- {name: cam1, password: "HASH", rooms: [garage, attic], topics: [{publish: "home/#"}, {subscribe: "home/#"}]}
- {name: bob, password: "HASH", rooms: [garage, attic], topics: [{publish: "home/#"}, {subscribe: "home/#"}]}
- {name: relay0, password: "HASH", rooms: garage, role: ROLE, topics: [{publish: "home/#"}, {subscribe: "home/#"}]}
- {name: relay1, password: "HASH", rooms: garage, role: ROLE, topics: [{publish: "home/#"}, {subscribe: "home/#"}]}
- {name: relay2, password: "HASH", rooms: garage, role: ROLE, topics: [{publish: "home/#"}, {subscribe: "home/#"}]}
`))
	for range n {
		ring = append(ring, startSite(t, append([]string{"--users=" + users, "--limit-logins=0"}, args...)...))
	}
	return ring
}

// Row 30 as far as there are nodes: no door takes a client for one.
func TestThreatNobodyIsTakenForAnotherServer(t *testing.T) {
	threat.Row(t, 30, 0)
	everyTransport(t, func(t *testing.T, s *site, version byte, open func() net.Conn) {
		// The bit of a bridge, which others take as a sign to believe what it says.
		for _, hello := range []string{
			"\x00\x04MQTT\x84\x02\x00\x3c\x00\x01x", "\x00\x06MQIsdp\x83\x02\x00\x3c\x00\x01x", "\x00\x04MQTT\x85\x02\x00\x3c\x00\x00\x01x",
		} {
			if code := refusal(t, open(), packet(0x10, hello)); code != 1 {
				t.Errorf("% x is answered with %#x, want 1: unacceptable protocol version", hello, code)
			}
		}
		conn := open()
		mqttConnect(t, conn, connectAs(version, "mallory", "", "", ""))
		none := (&wire{version: version}).none()
		for _, topic := range []string{"$SYS/broker/connection/x/state", "$beckon/node", "rtc/v1/garage/to/bird/canary", "rtc/v1/garage/all/canary",
			"rtc/v1/garage/peers/canary", "rtc/v1/garage/to/bird/_", "rtc/v1/garage/wake/bird", "rtc/v2/garage/to/bird/canary"} {
			for _, kind := range []byte{0x30, 0x31} {
				_, _ = io.WriteString(conn, packet(kind, text(topic), none, `{"type":"msg","data":"forged"}`))
			}
		}
		_, _ = io.WriteString(conn, "\xe0\x00")
		isClosed(t, conn)
	}) // whose canaries hear each other, and nothing else
}

// A mosquitto that is a bridge says so first, and is an ordinary client then. What
// it hears it says to the next server, in a ring: nothing of the rooms gets any
// further by an account that is a peer, and what goes round by one that may speak
// as anyone, or outside the rooms, is held to the budget.
func TestThreatRingOfBridgesIsHeldToTheBudget(t *testing.T) {
	t.Parallel()
	const perSecond, burst = 20, 50
	lasting := time.Duration(times(2, 30)) * time.Second
	var rings sync.WaitGroup // all at once: most of the time they wait for mosquitto
	for name, c := range map[string]struct {
		role, topic string
		loops       bool
	}{
		"a peer":            {"peer", "rtc/v1/garage/all/+", false},
		"an admin":          {"admin", "rtc/v1/garage/all/+", true},
		"outside the rooms": {"peer", "home/#", true},
	} {
		rings.Go(func() {
			t.Run(name, func(t *testing.T) {
				threat.Row(t, 30, 0)
				ring := startRing(t, 3, c.role, fmt.Sprint("--limit-rate=", perSecond), fmt.Sprint("--limit-burst=", burst))
				var all []func()
				for i := range ring {
					account := fmt.Sprint("relay", i)
					topics := []string{c.topic + " both 1", "rtc/v1/garage/to/" + account + "/+ in 1"} // by the second it joins the room
					log, connected := startBridge(t, account, remote{ring[i].testServer, topics}, remote{ring[(i+1)%3].testServer, topics})
					all = append(all, func() {
						if connected(); !strings.Contains(log.String(), "unacceptable protocol version") {
							t.Error("mosquitto did not say that it is a bridge")
						}
					})
				}
				for _, connected := range all {
					connected()
				}
				cam, err := ring[1].login(t, mqtt3TCP, "cam1", alicePwd)
				if err != nil {
					t.Fatal(err)
				}
				alice, err := ring[1].login(t, jsonWS, "alice", alicePwd)
				if err != nil {
					t.Fatal(err)
				}
				cam.join("attic") // where no bridge is
				alice.join("attic")
				cam.sees("alice")
				song := &besieged{site: ring[1], canaries: &canaries{mqtt: cam, json: alice}}
				next := ring[1].wire(t, "tcp", 4)
				next.connect("bob", "bob", alicePwd)
				if c.topic == "home/#" {
					next.ask(next.subscription("home/#"))
				} else {
					next.mustSubscribe("garage", "to/bob/+", "all/+")
				}
				next.take()

				begins := ring[2].wire(t, "tcp", 5)
				begins.connect("alice", "alice", alicePwd)
				begins.mustSubscribe("garage", "to/alice/+")
				says := strings.NewReplacer("+", "alice", "#", "door").Replace(c.topic)
				begins.ask(begins.publication(says, `{"type":"msg","data":"round"}`, false))

				heard, began := 0, time.Now()
				_ = next.conn.SetReadDeadline(began.Add(lasting))
				for {
					if _, _, err := next.read(); err != nil {
						break
					}
					for _, h := range next.take() {
						if strings.Contains(h.payload, "round") {
							heard++
						}
					}
				}
				most := int(2 * (burst + perSecond*(lasting.Seconds()+2))) // two bridges speak at each server
				t.Logf("one message was heard %d times in %v, the budget of two bridges is %d", heard, lasting, most)
				if heard > most || !c.loops && heard > 0 || c.loops && heard == 0 {
					t.Errorf("one message was heard %d times", heard)
				}
				song.sing() // while it goes round
			})
		})
	}
	rings.Wait()
}
