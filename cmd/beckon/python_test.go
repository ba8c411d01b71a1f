package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// python is the interpreter that has aiortc and paho: Debian's packages are for its
// own, which need not be the first in the path.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import aiortc, paho.mqtt.client").Run() == nil {
			return name
		}
	}
	missing(t, "python3 with aiortc and paho is not installed")
	return ""
}

const pythonExample = "../../examples/python-camera/"

func TestPythonCameraIsPlayedByWHEP(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	camera := startDevice(t, python(t), pythonExample+"camera.py", "--broker", s.MQTT)
	p := newPlayer(t)
	r, answer := s.askFor(t, p.offer(false))
	if r.StatusCode != http.StatusCreated {
		t.Fatalf("status %d: %s", r.StatusCode, answer)
	}
	p.accept(answer)
	p.plays(10)
	if r, body := request(t, "DELETE", s.URL+r.Header.Get("Location"), ""); r.StatusCode != http.StatusOK {
		t.Errorf("status %d: %s", r.StatusCode, body)
	}

	camera.stop(syscall.SIGTERM)
	if said := camera.stderr.String(); said != "" {
		t.Errorf("it says %s", said)
	}
	if r, body := s.askFor(t, newPlayer(t).offer(false)); r.StatusCode != http.StatusNotFound {
		t.Errorf("status %d: %s", r.StatusCode, body)
	}
}

// The browser trickles its candidates to a camera that does not.
func TestPythonCameraIsPlayedInABrowser(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	camera := startDevice(t, python(t), pythonExample+"camera.py", "--broker", s.MQTT)
	r := startRecord(t, s)
	page := serveExample(t, "whep-player", "whip-whep")
	tab := newTab(t, page+"?"+url.Values{"endpoint": {r.URL + "/whep/garage/cam1"}}.Encode())
	tab.playing("#video", 640, 360)
	session := r.opened(1)
	r.one("PATCH", 1, http.StatusNoContent)
	camera.stop(syscall.SIGTERM)
	r.isGone(session)
	tab.waitFor(`document.querySelector('#status').dataset.state === 'failed'`)
	if said := camera.stderr.String(); said != "" {
		t.Errorf("it says %s", said)
	}
}

func TestPythonPlaysTheCameraByWHEP(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	s := startServer(t)
	startCamera(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, interpreter, pythonExample+"watch.py", s.URL+"/whep/garage/cam1", "--frames=40").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "frame 31: 640x360") || strings.Contains(string(out), "Traceback") {
		t.Errorf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

func TestPythonPlayerSaysWhyItCannotPlay(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	s := startServer(t)
	for endpoint, want := range map[string]string{
		s.URL + "/whep/garage/cam9":           "there is no cam9 in garage",
		"http://127.0.0.1:1/whep/garage/cam1": "refused",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		out, err := exec.CommandContext(ctx, interpreter, pythonExample+"watch.py", endpoint).CombinedOutput()
		cancel()
		if err == nil || !strings.Contains(string(out), want) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: %v: %s", endpoint, err, out)
		}
	}
}

func TestPythonPlayerThatIsInterruptedSaysNothingOfTheCamera(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	s := startServer(t)
	startCamera(t, s)
	var said logs
	watch := exec.Command(interpreter, pythonExample+"watch.py", s.URL+"/whep/garage/cam1")
	watch.Stdout, watch.Stderr = &said, &said
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Process.Kill() }()
	eventually(t, "a frame", func() bool { return strings.Contains(said.String(), "frame 1:") })
	_ = watch.Process.Signal(syscall.SIGINT)
	if err := watch.Wait(); err != nil || strings.Contains(said.String(), "ended the call") {
		t.Errorf("%v: %s", err, said.String())
	}
}

func TestPythonCameraWaitsForAServerThatIsNotThereOrTakesNobody(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	s := startServer(t)
	full, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	way := newRoad(t, full.Addr().String())
	var refusing sync.WaitGroup
	defer refusing.Wait()
	defer full.Close()
	refusing.Go(func() {
		for _, answer := range []string{"", "\x20\x02\x00\x03"} { // gone at once, then CONNACK: unavailable
			c, err := full.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 100))
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
		way.lead(s.MQTT)
	})
	camera := startDevice(t, interpreter, pythonExample+"camera.py", "--broker", way.address)
	camera.stop(syscall.SIGTERM)
	if said := camera.stderr.String(); said != "" || !camera.cmd.ProcessState.Success() {
		t.Errorf("it ended with %v and says %s", camera.cmd.ProcessState, said)
	}
}

func TestPythonCameraComesByTLSAndEndsWhenItsPasswordIsWrong(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	cert, key := writeCertificate(t)
	s := startServer(t, "--users="+usersFile(t, map[string]string{"cam1": camera1}), "--tls-cert="+cert, "--tls-key="+key)
	args := []string{pythonExample + "camera.py", "--broker", s.MQTT, "--tls", "--ca", cert, "--password-file"}
	camera := startDevice(t, interpreter, append(args, writeFile(t, "password", camera1))...)
	camera.stop(syscall.SIGTERM)
	if said := camera.stderr.String(); said != "" {
		t.Errorf("it says %s", said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, interpreter, append(args, writeFile(t, "wrong", "hunter2-wrong"))...).CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.HasPrefix(string(out), "the broker refuses: ") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("%v: %s", err, out)
	}
}
