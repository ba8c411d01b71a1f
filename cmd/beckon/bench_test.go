package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/cmd/beckon/bench"
)

// benched runs beckon bench with args, and returns its result.
func benched(t *testing.T, wantCode int, args ...string) bench.Result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "result.json")
	var stdout, stderr bytes.Buffer
	code := run(append([]string{"bench"}, append(args, "--json", file)...), &stdout, &stderr)
	if code != wantCode {
		t.Fatalf("beckon bench %s: exit code %d\n%s%s", strings.Join(args, " "), code, &stdout, &stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var result bench.Result
	if err := json.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), args[0]) {
		t.Errorf("the table is\n%s", &stdout)
	}
	return result
}

// nothingLost holds what every good run has.
func nothingLost(t *testing.T, r bench.Result) {
	t.Helper()
	if r.Lost != 0 || r.Doubled != 0 || r.Disordered != 0 || r.ConnectionsLost != 0 || r.Failed != 0 || r.Errors != nil {
		t.Errorf("the result is %+v", r)
	}
}

func TestBenchSaysWhichLimitsItWouldMeasure(t *testing.T) {
	var stdout bytes.Buffer
	code := run([]string{"bench", "--help"}, &stdout, &stdout)
	if said := strings.Join(strings.Fields(stdout.String()), " "); code != exitOK || !strings.Contains(said, "--limit-rate 0 --limit-bytes 0") {
		t.Errorf("exit code %d\n%s", code, &stdout)
	}
}

func TestBenchCallsByEveryDoor(t *testing.T) {
	s := startServer(t)
	for _, doors := range []string{"--door=ws", "--door=mqtt", "--door=mqttws", "--door=ws,mqtt", "--viewer=mqttws,ws --camera=mqtt"} {
		for qos := range 2 {
			if doors == "--door=ws" && qos == 1 {
				continue
			}
			t.Run(fmt.Sprint(doors, qos), func(t *testing.T) {
				args := []string{"calls", "--server", s.MQTT, "--qos", strconv.Itoa(qos), "--pairs=3", "--duration=200ms", "--warmup=50ms", "--quiet"}
				r := benched(t, exitOK, append(args, strings.Fields(doors)...)...)
				nothingLost(t, r)
				if r.Calls == 0 || r.Published%11 != 0 || r.Delivered != r.Published || r.Latency == nil || r.Connections != 6 {
					t.Errorf("the result is %+v", r)
				}
			})
		}
	}
}

func TestBenchCallsAtARateInRoomsThatArePeopled(t *testing.T) {
	s := startServer(t)
	r := benched(t, exitOK, "calls", "--server", s.MQTT, "--door=ws,mqtt", "--pairs=4", "--rooms=2", "--rate=50", "--duration=1s", "--warmup=0s", "--pid", strconv.Itoa(os.Getpid()))
	nothingLost(t, r)
	if r.Calls < 5 || float64(r.Calls) > 50*r.Seconds+2 {
		t.Errorf("at 50 calls a second there were %d in %v s", r.Calls, r.Seconds)
	}
	if r.CPUSeconds > 0 && r.CPUPerMessage == 0 || r.Resident == 0 {
		t.Errorf("the server took nothing: %+v", r)
	}
}

func TestBenchFanoutReachesEverybodyByEveryDoor(t *testing.T) {
	s := startServer(t)
	for _, args := range [][]string{
		{"--door=ws"}, {"--door=mqtt", "--qos=0"}, {"--door=mqtt", "--qos=1"}, {"--door=mqttws"},
		{"--sender=mqtt", "--door=ws,mqtt,mqttws"}, {"--sender=ws", "--door=ws,mqtt,mqttws", "--rate=100"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			r := benched(t, exitOK, append([]string{"fanout", "--server", s.MQTT, "--receivers=7", "--duration=200ms", "--warmup=50ms", "--quiet"}, args...)...)
			nothingLost(t, r)
			if r.Published == 0 || r.Delivered != 7*r.Published || r.Latency == nil {
				t.Errorf("the result is %+v", r)
			}
		})
	}
}

func TestBenchIdleConnectionsAllAnswerInTheEnd(t *testing.T) {
	s := startServer(t)
	r := benched(t, exitOK, "idle", "--server", s.MQTT, "--door=mqtt,mqttws,ws", "--connections=12", "--rooms=5", "--hold=100ms", "--pid", strconv.Itoa(os.Getpid()))
	nothingLost(t, r)
	if r.Connections != 12 || r.Published != 0 {
		t.Errorf("the result is %+v", r)
	}
}

func TestBenchStormComesBack(t *testing.T) {
	s := startServer(t)
	r := benched(t, exitOK, "storm", "--server", s.MQTT, "--door=mqtt,mqttws,ws", "--connections=12", "--jitter=50ms")
	nothingLost(t, r)
	if r.BackSeconds <= 0 || r.Latency == nil {
		t.Errorf("the result is %+v", r)
	}
}

func TestBenchWithTheKeyOfTheServerNeedsNoDev(t *testing.T) {
	key := writeFile(t, "jwt.key", secret)
	s := startServer(t, "--jwt-key="+key)
	nothingLost(t, benched(t, exitOK, "calls", "--server", s.MQTT, "--door=ws,mqtt,mqttws", "--pairs=3", "--duration=100ms", "--warmup=0s", "--jwt-key", key))
}

func TestBenchOverTLS(t *testing.T) {
	cert, key := writeCertificate(t)
	s := startServer(t, "--tls-cert="+cert, "--tls-key="+key)
	nothingLost(t, benched(t, exitOK, "calls", "--server", s.MQTT, "--door=ws,mqtt,mqttws", "--pairs=3", "--duration=100ms", "--warmup=0s", "--tls", "--insecure"))
}

func TestBenchFailsAndSaysWhyWhenMessagesAreLost(t *testing.T) {
	s := startServer(t, "--limit-message=1KiB")
	for _, door := range []string{"ws", "mqtt"} {
		r := benched(t, exitFailed, "calls", "--server", s.MQTT, "--door", door, "--pairs=2", "--duration=1ms", "--warmup=0s", "--timeout=300ms")
		if r.Lost < 2 || r.Calls != 0 || len(r.Errors) == 0 || r.Errors[len(r.Errors)-1].Code != 413 {
			t.Errorf("the result is %+v", r)
		}
	}
}

func TestBenchFailsWhenItIsNotLetIn(t *testing.T) {
	s := startServer(t, "--jwt-key="+writeFile(t, "jwt.key", secret))
	for door, want := range map[string]string{"ws": "401", "mqtt": "CONNACK 0x", "mqttws": "CONNACK 0x"} {
		var stdout, stderr bytes.Buffer
		code := run([]string{"bench", "idle", "--server", s.MQTT, "--door", door, "--connections=1"}, &stdout, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), want) {
			t.Errorf("by the door %s: exit code %d, %s", door, code, &stderr)
		}
	}
}

func TestBenchSaysAllThatIsWrongWithWhatItWasAskedFor(t *testing.T) {
	for want, args := range map[string][]string{
		"--pairs is not positive --timeout is not positive --server \"x\" --ws \"http://x\"": {"calls", "--pairs=0", "--timeout=0s", "--server=x", "--ws=http://x"},
		"--door must be one of":   {"idle", "--door=ftp"},
		"--qos 2":                 {"fanout", "--qos=2"},
		"--sender takes one door": {"fanout", "--sender=ws,mqtt"},
		"--jitter is negative --patience is not positive": {"storm", "--jitter=-1s", "--patience=0s"},
		"--pid 1073741824": {"idle", "--pid=1073741824"},
		"--door peerjs is that of another server --door peerjs: PeerJS has no way": {"fanout", "--door=ws,peerjs"},
		"has another scheme": {"idle", "--tls", "--ws=ws://a/b"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"bench"}, args...), &stdout, &stderr)
		if code == exitOK {
			t.Errorf("%v: exit code %d", args, code)
		}
		for _, part := range strings.SplitAfter(strings.ReplaceAll(want, " --", "\n--"), "\n") {
			if !strings.Contains(stderr.String(), strings.TrimSpace(part)) {
				t.Errorf("%v: %q is not in %s", args, part, &stderr)
			}
		}
	}
}
