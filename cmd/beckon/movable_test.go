//go:build unix

package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// movable is the program with a time of day that can be set, as NTP or a person
// sets it: the clock that everybody reads, CLOCK_REALTIME, is one for the whole
// machine, and libfaketime does not reach a program without a libc.
type movable struct {
	*program
	file string
}

// clockFile names the variable for the file that says by how many seconds the
// clock is ahead: 8 bytes, as the machine has them.
const clockFile = "BECKON_TEST_CLOCK"

// movedNow is compiled into package time, beside its own files. The file is mapped,
// not read: time.Now is called by the scheduler, too, which must not enter the kernel.
const movedNow = `package time

import (
	"syscall"
	"unsafe"
)

// moved is by how many seconds the clock is ahead.
var moved = openMoved()

func openMoved() *int64 {
	path, ok := syscall.Getenv("` + clockFile + `")
	if !ok {
		return new(int64)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("` + clockFile + `: " + err.Error())
	}
	shared, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("` + clockFile + `: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&shared[0]))
}
`

// now is how time.Now begins, and what it becomes. What it reads of the clock that
// nobody sets, by which timers and deadlines go, stays as it is.
const (
	now      = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	nowMoved = now + "\tsec += *moved\n"
)

// buildMovable builds the program with that package time. go build keeps what it
// makes of all that is below: the first time takes half a minute.
func buildMovable(t *testing.T) (path string) {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("it takes the go command to build a program whose clock can be set: %v", err)
	}
	file := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time", "time.go")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), now) != 1 {
		t.Fatalf("time.Now of this Go (%s) does not begin with\n%s\nsee how it reads the clock now, and change this test", file, now)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		file: writeFile(t, "time.go", strings.Replace(string(text), now, nowMoved, 1)),
		filepath.Join(filepath.Dir(file), "moved.go"): writeFile(t, "moved.go", movedNow),
	}})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "beckon")
	build := exec.Command("go", "build", "-overlay", writeFile(t, "overlay.json", string(overlay)), "-o", path, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return path
}

// startMovable starts it, with the clock right.
func startMovable(t *testing.T, path string, args ...string) *movable {
	t.Helper()
	m := &movable{file: writeFile(t, "clock", string(make([]byte, 8)))}
	m.program = startBinary(t, path, []string{clockFile + "=" + m.file}, args...)
	return m
}

// set sets its clock.
func (m *movable) set(t *testing.T, ahead time.Duration) {
	t.Helper()
	file, err := os.OpenFile(m.file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(binary.NativeEndian.AppendUint64(nil, uint64(ahead/time.Second))); err != nil {
		t.Fatal(err)
	}
}
