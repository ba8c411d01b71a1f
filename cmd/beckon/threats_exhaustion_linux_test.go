package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/topics/threat"
)

// startPoor runs the program itself with few descriptors, and returns it as a
// site.
func startPoor(t *testing.T, descriptors int) *site {
	t.Helper()
	cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" serve --dev --grace=0 --listen=127.0.0.1:0`, descriptors), os.Args[0])
	cmd.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &site{testServer: &testServer{Log: new(logs)}}
	lines, done := bufio.NewReader(stderr), make(chan struct{})
	for s.MQTT == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("it does not start: %v\n%s", err, s.Log)
		}
		_, _ = s.Log.Write([]byte(line))
		if _, on, ok := strings.Cut(line, " on "); ok && strings.HasPrefix(line, "ready ") {
			s.MQTT, _, _ = strings.Cut(on, ";")
		}
	}
	go func() {
		defer close(done)
		_, _ = io.Copy(s.Log, lines)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ended with %v\n%s", err, s.Log)
		}
	})
	return s
}

// Without descriptors the server takes nobody new; those who are there go on, and
// it recovers by itself.
func TestThreatWithoutDescriptorsOthersGoOnAndItRecovers(t *testing.T) {
	threat.Row(t, 32, threat.TCP|threat.JSON|threat.HTTP)
	s := startPoor(t, 60)
	c := startCanaries(t, s)
	c.sing()
	var open []net.Conn
	for range 150 {
		conn, err := net.Dial("tcp", s.MQTT)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	s.awaitLog(t, "connections cannot be accepted", "too many open files")
	for range 20 {
		c.sing()
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	for _, at := range []entrance{mqtt3TCP, mqtt5TCP, jsonWS} {
		start := time.Now()
		s.caller(t, at, "late", "attic").leave()
		t.Logf("%v after the flood: in within %v", at, time.Since(start).Round(time.Millisecond))
	}
	if answer, _ := get(t, "GET", "http://"+s.MQTT+"/readyz", nil); answer.StatusCode != 200 {
		t.Errorf("/readyz says %d", answer.StatusCode)
	}
	c.sing()
	c.mqtt.quiet()
	c.json.quiet()
}

// An account that does not fit on the disk leaves the file as it was.
func TestThreatFullDiskKeepsTheAccounts(t *testing.T) {
	threat.Row(t, 32, 0)
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("it takes a right to mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, 0) })
	users := filepath.Join(disk, "users.yaml")
	add := func(name string) (int, string) {
		code, _, stderr := typed(t, "hunter2 and more of it", "passwd", "--users", users, name, "--room=garage")
		return code, stderr
	}
	if code, said := add("alice"); code != exitOK {
		t.Fatalf("%d %s", code, said)
	}
	before, _ := os.ReadFile(users)
	full, err := os.Create(filepath.Join(disk, "full"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = full.Write(make([]byte, 2<<20)) // as far as it goes
	full.Close()
	code, said := add("bob")
	after, err := os.ReadFile(users)
	if code == exitOK || err != nil || string(after) != string(before) || !strings.Contains(said, "no space") {
		t.Errorf("exit code %d, %q; the file is the same: %v, %v", code, said, string(after) == string(before), err)
	}
	if left, _ := filepath.Glob(filepath.Join(disk, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	_ = os.Remove(full.Name())
	if code, said := add("bob"); code != exitOK {
		t.Errorf("with room again: %d %s", code, said)
	}
}
