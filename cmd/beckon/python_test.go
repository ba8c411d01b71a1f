package main

import (
	"context"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
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
