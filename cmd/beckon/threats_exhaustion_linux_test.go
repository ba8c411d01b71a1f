package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

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
