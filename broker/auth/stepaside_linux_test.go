package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

func TestProcessAsideStepsAsideForAllOthers(t *testing.T) {
	threat.Row(t, 29, 0)
	a := withAside(t, asideOfTests)
	a.lets(byName("cam1", password))
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", a.processAside().Pid))
	if err != nil || len(threads) == 0 {
		t.Fatal("it has no threads: ", err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		_, fields, _ := strings.Cut(string(stat), ") ") // from the third on, see proc_pid_stat(5)
		if strings.Fields(fields)[41-3] == "5" {        // SCHED_IDLE
			return
		}
	}
	t.Error("no thread of it runs as SCHED_IDLE")
}
