package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics"
	pion "github.com/pion/turn/v5"
)

func TestRelaysOfARevokedAccountWithoutASessionEnd(t *testing.T) {
	t.Parallel()
	users := usersFile(t, map[string]string{"cam1": camera1, "alice": alicePwd})
	s := startSite(t, "--users="+users, "--limit-logins=0", "--turn-listen=127.0.0.1:0")
	full, _ := os.ReadFile(users)
	hello := func(user, pwd string) (*caller, topics.ICEServer) {
		c, err := s.login(t, jsonWS, user, pwd)
		if err != nil {
			t.Fatal(err)
		}
		c.room = "garage"
		if err := c.line.join("garage"); err != nil {
			t.Fatal(err)
		}
		w := c.until("its welcome", func(e event) bool { return e.kind == "joined" })
		var h struct {
			ICEServers []topics.ICEServer `json:"iceServers"`
		}
		if err := json.Unmarshal([]byte(w.text), &h); err != nil {
			t.Fatal(err)
		}
		return c, h.ICEServers[len(h.ICEServers)-1]
	}
	allocate := func(e topics.ICEServer) error {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := strings.TrimSuffix(strings.TrimPrefix(e.URLs[0], "turn:"), "?transport=udp")
		c, err := pion.NewClient(&pion.ClientConfig{TURNServerAddr: at, STUNServerAddr: at, Username: e.Username, Password: e.Credential, Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); _ = conn.Close() })
		if err := c.Listen(); err != nil {
			t.Fatal(err)
		}
		relay, err := c.Allocate()
		if err == nil {
			t.Cleanup(func() { _ = relay.Close() })
		}
		return err
	}
	_, cams := hello("cam1", camera1)
	alice, hers := hello("alice", alicePwd)
	if err := allocate(hers); err != nil {
		t.Fatal(err)
	}
	if err := allocate(cams); err != nil {
		t.Fatal(err)
	}
	alice.leave()
	first, second, _ := strings.Cut(string(full), "\n- ")
	without := first + "\n"
	if strings.HasPrefix(first, "- name: alice") {
		without = "- " + second
	}
	replace(t, users, without)
	s.awaitLog(t, "relay ended", "peer=alice")
	if strings.Contains(s.Log.String(), `"relay ended" peer=cam1`) {
		t.Error("cam1's ended")
	}
	if allocate(hers) == nil {
		t.Error("again")
	}
	if err := allocate(cams); err != nil {
		t.Error("cam1 refused", err)
	}
	replace(t, users, string(full))
	eventually(t, "account back", func() bool {
		c, err := s.login(t, mqtt5TCP, "alice", alicePwd)
		if err == nil {
			c.leave()
		}
		return err == nil
	})
	_, hers = hello("alice", alicePwd)
	if err := allocate(hers); err != nil {
		t.Error("new ones refused", err)
	}
}
