package bench

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func proc(t *testing.T, files map[string]string) *process {
	t.Helper()
	p := &process{dir: t.TempDir(), page: 4096}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

const stat = " S 1 2 3 4 5 6 7 8 9 10 123 45 0 0 20 0 8 0 100 1 2\n"

func TestCPUTimeIsReadWhateverTheProgramIsCalled(t *testing.T) {
	for _, name := range []string{"beckon", "a b", "x) R 1 (y"} {
		got, err := proc(t, map[string]string{"stat": "42 (" + name + ")" + stat}).cpu()
		if err != nil || got != 1680*time.Millisecond {
			t.Errorf("of %q: %v, %v, want 1.68 s", name, got, err)
		}
	}
	for _, text := range []string{"", "42 (a) S 1", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x y 0 0"} {
		if got, err := proc(t, map[string]string{"stat": text}).cpu(); err == nil {
			t.Errorf("of %q: %v", text, got)
		}
	}
}

func TestResidentMemoryIsReadExactlyOrFromStatm(t *testing.T) {
	const rollup = "00400000-7fff00000000 ---p 00000000 00:00 0    [rollup]\nRss:               15952 kB\nPss:  1 kB\n"
	if got, err := proc(t, map[string]string{"smaps_rollup": rollup, "statm": "9 9 9"}).resident(); err != nil || got != 15952<<10 {
		t.Errorf("smaps_rollup: %d, %v", got, err)
	}
	if got, err := proc(t, map[string]string{"statm": "1000 250 3 4 0 5 0\n"}).resident(); err != nil || got != 250*4096 {
		t.Errorf("statm: %d, %v", got, err)
	}
	if got, err := proc(t, nil).resident(); err == nil {
		t.Errorf("nothing: %d", got)
	}
}

func TestThisProcessHasMemoryAndTakesTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is /proc on Linux only")
	}
	p, err := newProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.resident(); err != nil || n < 1<<20 {
		t.Errorf("it has %d bytes, %v", n, err)
	}
	for before := ownCPU(); ownCPU() < before+2*tick; {
	}
	if took, err := p.cpu(); err != nil || took <= 0 {
		t.Errorf("it took %v, %v", took, err)
	}
}

func TestProcessThatIsNotThereIsAnError(t *testing.T) {
	if _, err := newProcess(1 << 30); err == nil {
		t.Error("no error")
	}
}
