package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// patience is how long a test waits for something in a browser.
const patience = 30 * time.Second

func TestPageShowsTheCamerasPicture(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	startCamera(t, s)
	tab := newTab(t, s.URL+"/?room=garage&peer=alice&watch=cam1")
	tab.playing(`[data-tile="cam1"] video`, 640, 360)
	tab.waitFor(`document.querySelectorAll('#timeline [data-type="answer"][data-dir="in"]').length > 0`)
	tab.screenshot("page")
}

func TestPageOnMQTTAloneShowsTheCamerasPicture(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	startCamera(t, s)
	at := serveExample(t, "browser-mqtt", "mqtt")
	for _, version := range []string{"4", "5"} {
		query := url.Values{"broker": {s.Over}, "room": {"garage"}, "camera": {"cam1"}, "peer": {"bob" + version}, "v": {version}}
		tab := newTab(t, at+"?"+query.Encode())
		tab.playing(`#video`, 640, 360)
	}
}

func TestCameraThatOffersIsAskedToStart(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	startCamera(t, s, "--offers")
	tab := newTab(t, s.URL+"/?room=garage&peer=alice&watch=cam1")
	tab.playing(`[data-tile="cam1"] video`, 640, 360)
	tab.waitFor(`document.querySelectorAll('#timeline [data-type="start"][data-dir="out"]').length > 0`)
}

func TestOneBrowserWatchesAnother(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	newTab(t, s.URL+"/?room=garage&peer=desk&camera=1").waitFor(`document.querySelector('#camera').dataset.state === 'on'`)
	tab := newTab(t, s.URL+"/?room=garage&peer=alice&watch=desk")
	tab.playing(`[data-tile="desk"] video`, 640, 360)
}

func TestPageSaysThatTheCameraWentAndRecoversWhenItIsBack(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--grace=500ms")
	tab := newTab(t, s.URL+"/?room=garage&peer=alice&watch=cam1")
	tab.waitFor(`document.querySelector('[data-tile="cam1"]')?.dataset.state === 'offline'`)
	camera := startCamera(t, s)
	tab.playing(`[data-tile="cam1"] video`, 640, 360)

	camera.stop(syscall.SIGTERM) // it says bye
	tab.waitFor(`document.querySelector('[data-tile="cam1"]').dataset.state === 'offline'`)
	tab.waitFor(`document.querySelector('[data-tile="cam1"]').innerText.includes('cam1')`)
	camera = startCamera(t, s)
	tab.playing(`[data-tile="cam1"] video`, 640, 360)

	camera.stop(syscall.SIGKILL) // unplugged
	tab.waitFor(`document.querySelector('[data-tile="cam1"]').dataset.state === 'offline'`)
	startCamera(t, s)
	tab.playing(`[data-tile="cam1"] video`, 640, 360)
}

func TestPageRecoversWhenTheCameraRestartsWithinTheGrace(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--grace=1m")
	camera := startCamera(t, s)
	tab := newTab(t, s.URL+"/?room=garage&peer=alice&watch=cam1")
	tab.playing(`[data-tile="cam1"] video`, 640, 360)
	camera.stop(syscall.SIGKILL)
	startCamera(t, s)
	tab.waitFor(`document.querySelector('[data-tile="cam1"]').dataset.state !== 'live'`)
	tab.playing(`[data-tile="cam1"] video`, 640, 360)
}

// TestTwoHundredCallsInARowLeaveNothingBehind calls the camera by beckon.js, one
// call after the other, and counts what the server and the camera keep.
func TestTwoHundredCallsInARowLeaveNothingBehind(t *testing.T) {
	calls := 200
	if testing.Short() {
		calls = 20
	}
	s := startServer(t, "--log-level=warn")
	camera := startCamera(t, s)
	tab := newTab(t, s.URL+"/?room=attic&peer=somebody")
	tab.waitFor(`document.querySelector('#status').dataset.state === 'connected'`)
	tab.run(`(async () => {
		const { connect } = await import("/beckon.js");
		const beckon = connect("` + s.WS + `");
		window.room = await beckon.join("garage", { peer: "alice" });
		window.callOnce = () => new Promise((resolve, reject) => {
			const call = window.room.call("cam1");
			const late = setTimeout(() => reject(new Error("no connection, the call is " + call.state)), 15000);
			let track = false;
			const look = () => {
				if (track && call.connection?.connectionState === "connected") {
					clearTimeout(late);
					clearInterval(poll);
					call.hangup();
					resolve("connected");
				}
			};
			const poll = setInterval(look, 5);
			call.addEventListener("track", () => { track = true; });
			call.addEventListener("error", (e) => reject(e.error));
		});
		return "ready";
	})()`)
	tab.run(`window.callOnce()`) // the first one makes what is made once
	goroutines, memory := runtime.NumGoroutine(), camera.memory()
	start := time.Now()
	for i := range calls {
		if got := tab.run(`window.callOnce()`); got != "connected" {
			t.Fatalf("call %d: %s", i, got)
		}
	}
	each := time.Since(start) / time.Duration(calls)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > goroutines+5; <-tick.C {
		if time.Now().After(deadline) {
			t.Errorf("the server has %d goroutines, it had %d", runtime.NumGoroutine(), goroutines)
			break
		}
	}
	after := camera.memory()
	t.Logf("%d calls, %v each; camera's memory %d KiB before, %d KiB after", calls, each.Round(time.Millisecond), memory, after)
	if after > memory+40<<10 {
		t.Errorf("the camera's memory grew from %d to %d KiB", memory, after)
	}
	if n := camera.goroutines(); n > 60 {
		t.Errorf("the camera has %d goroutines when nobody watches", n)
	}
}

// camera is a program that is a camera, as a process.
type camera struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *logs
	ended  chan struct{}
}

// startCamera starts examples/camera.
func startCamera(t *testing.T, s *testServer, args ...string) *camera {
	t.Helper()
	program, err := buildCamera()
	if err != nil {
		t.Fatalf("build the camera: %v", err)
	}
	return startDevice(t, program, append([]string{"--broker", "tcp://" + s.MQTT}, args...)...)
}

// buildCamera builds it, for all tests but once; TestMain removes it.
var buildCamera = sync.OnceValues(func() (program string, err error) {
	program = filepath.Join(built(), "camera")
	if out, err := exec.Command("go", "build", "-o", program, "../../examples/camera").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
})

// startDevice starts a camera, which says "ready" when it is.
func startDevice(t *testing.T, program string, args ...string) *camera {
	t.Helper()
	c := &camera{t: t, stderr: new(logs), ended: make(chan struct{})}
	c.cmd = exec.Command(program, args...)
	c.cmd.Stderr = c.stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	said := new(logs)
	go func() {
		defer close(c.ended)
		lines := bufio.NewScanner(io.TeeReader(out, said))
		for first := true; lines.Scan(); {
			if first && strings.HasPrefix(lines.Text(), "ready") {
				first = false
				close(ready)
			}
		}
		_ = c.cmd.Wait()
	}()
	t.Cleanup(func() {
		c.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the camera said:\n%s%s", said, c.stderr)
		}
	})
	select {
	case <-ready:
	case <-c.ended:
		t.Fatalf("the camera ended: %s", c.stderr)
	case <-time.After(patience):
		t.Fatal("the camera is not ready")
	}
	return c
}

func (c *camera) stop(sig syscall.Signal) {
	_ = c.cmd.Process.Signal(sig)
	<-c.ended
}

// memory is the resident memory of the camera in KiB.
func (c *camera) memory() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0 // not Linux
	}
	var kib int
	if m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status); m != nil {
		_, _ = fmt.Sscan(string(m[1]), &kib)
	}
	return kib
}

// goroutines ends the camera with a dump of its goroutines and counts them.
func (c *camera) goroutines() int {
	c.stop(syscall.SIGQUIT)
	return strings.Count(c.stderr.String(), "\ngoroutine ")
}

// serveExample serves the page of an example as its README says, and returns its
// address. The package is what npm installs for it.
func serveExample(t *testing.T, name, npm string) string {
	t.Helper()
	if _, err := os.Stat("../../examples/" + name + "/node_modules/" + npm); err != nil {
		missing(t, npm+" is not installed: run npm ci in examples/"+name)
	}
	return servePage(t, name)
}

// servePage does so without what npm installs.
func servePage(t *testing.T, name string) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	cmd := exec.Command(node, "serve.mjs", "0")
	cmd.Dir = "../../examples/" + name
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the page's server ended: %v", err)
	}
	return regexp.MustCompile(`http://\S+`).FindString(line)
}

// missing skips a test for want of a program, which CI must have.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and CI=true", what)
	}
	t.Skipf("skipped: %s", what)
}

// tab is a page in a headless Chromium of its own.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func newTab(t *testing.T, address string) *tab {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		missing(t, "Chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1280, 1000),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("disable-features", "WebRtcHideLocalIpsWithMdns,Translate,OptimizationHints,MediaRouter"),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeTab := chromedp.NewContext(allocator, chromedp.WithErrorf(log.New(io.Discard, "", 0).Printf))
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser has ended
		closeTab()
		stop()
	})
	tab := &tab{t: t, ctx: ctx}
	if err := chromedp.Do(ctx, chromedp.Navigate(address)); err != nil {
		t.Fatalf("open %s: %v", address, err)
	}
	return tab
}

// waitFor waits until an expression is true in the page.
func (tab *tab) waitFor(expression string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	poll := chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0))
	if err := chromedp.Do(ctx, poll); err != nil {
		text, _ := chromedp.Run(tab.ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 3000)`))
		tab.t.Fatalf("waited in vain for %s: %v\nthe page says:\n%s", expression, err, text)
	}
}

// playing waits until a video has the size and its time and frames advance.
func (tab *tab) playing(selector string, width, height int) {
	tab.t.Helper()
	tab.waitFor(fmt.Sprintf(`(() => {
		const video = document.querySelector(%q);
		if (!video || video.videoWidth !== %d || video.videoHeight !== %d) return false;
		const now = video.getVideoPlaybackQuality().totalVideoFrames;
		const source = video.srcObject?.id;
		if (window.beckonSource !== source) { window.beckonSource = source; window.beckonFrames = now; }
		return now > window.beckonFrames + 10;
	})()`, selector, width, height))
	tab.run(`Promise.resolve(String(delete window.beckonSource))`)
}

// run evaluates an expression that is a promise of a text.
func (tab *tab) run(expression string) string {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("%.80s: %v", expression, err)
	}
	return result
}

// screenshots is given as go test ./cmd/beckon -screenshots DIR.
var screenshots = flag.String("screenshots", "", "folder in which browser tests keep a picture of the page")

func (tab *tab) screenshot(name string) {
	if *screenshots == "" {
		return
	}
	png, err := chromedp.Run(tab.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644)
	}
	if err != nil {
		tab.t.Error(err)
	}
}
