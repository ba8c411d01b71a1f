package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is the server's, as /proc shows it.
type process struct {
	dir  string // /proc/PID
	page int64  // bytes
}

func newProcess(pid int) (*process, error) {
	p := &process{dir: filepath.Join("/proc", strconv.Itoa(pid)), page: int64(os.Getpagesize())}
	if _, err := p.cpu(); err != nil {
		return nil, fmt.Errorf("--pid %d: %w", pid, err)
	}
	return p, nil
}

// tick is the unit of times in /proc, USER_HZ, which is 100 on every architecture
// that Go knows.
const tick = 10 * time.Millisecond

// cpu is the user and system time that the process took, proc(5): fields 14 and 15
// of stat. The second field may hold anything, parentheses included.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(p.dir, "stat"))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s/stat has too few fields", p.dir)
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	if err != nil {
		return 0, err
	}
	return time.Duration(user+system) * tick, nil
}

// resident is the memory of the process that is in use, in bytes: of smaps_rollup,
// which is exact, or of statm, for a process of somebody else.
func (p *process) resident() (int64, error) {
	if text, err := os.ReadFile(filepath.Join(p.dir, "smaps_rollup")); err == nil {
		for line := range strings.Lines(string(text)) {
			if size, ok := strings.CutPrefix(line, "Rss:"); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(size), "kB")), 10, 64)
				return n << 10, err
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(p.dir, "statm"))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, fmt.Errorf("%s/statm has too few fields", p.dir)
	}
	n, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return n * p.page, err
}
