package main

import (
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/broker/turn/coturn"
)

// The browser of these tests may use nothing but a relay, and has only the
// credentials that the server tells it.

func TestCameraIsWatchedThroughTheEmbeddedRelay(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--turn-listen=127.0.0.1:0") // relays to relays alone: the camera has one, too
	watchThroughRelay(t, s)
	for _, says := range []string{`msg="relay made" peer=alice`, `msg="relay made" peer=cam1`} {
		if !strings.Contains(s.Log.String(), says) {
			t.Errorf("the log does not have %s", says)
		}
	}
}

func TestCameraIsWatchedThroughTheEmbeddedRelayWithTheLocalNetworkAllowed(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--turn-listen=127.0.0.1:0", "--turn-allow-peer=127.0.0.0/8")
	watchThroughRelay(t, s)
}

func TestCameraIsWatchedThroughCoturn(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-that-coturn-and-the-server-share"
	at := coturn.Start(t, secret)
	s := startServer(t, "--ice-server=turn:"+at+"?transport=udp", "--turn-secret="+writeFile(t, "secret", secret+"\n"))
	watchThroughRelay(t, s)
	if strings.Contains(s.Log.String(), secret) {
		t.Error("the secret is in the log")
	}
}

// watchThroughRelay calls the camera from a page that may only use a relay,
// and waits for its picture.
func watchThroughRelay(t *testing.T, s *testServer) {
	t.Helper()
	startCamera(t, s)
	tab := newTab(t, s.URL+"/?room=attic&peer=somebody")
	tab.waitFor(`document.querySelector('#status').dataset.state === 'connected'`)
	tab.run(`(async () => {
		const { connect } = await import("/beckon.js");
		const beckon = connect("` + s.WS + `", { RTCPeerConnection: { iceTransportPolicy: "relay" } });
		const room = await beckon.join("garage", { peer: "alice" });
		const video = Object.assign(document.createElement("video"), { id: "relayed", muted: true, autoplay: true });
		document.body.append(video);
		window.call = room.call("cam1");
		window.call.addEventListener("track", (event) => { video.srcObject = event.streams[0]; });
		window.call.addEventListener("error", (event) => { document.body.append("call failed: " + event.error.message); });
		return "called";
	})()`)
	tab.playing("#relayed", 640, 360)
	if kind := tab.run(`(async () => {
		const stats = await window.call.connection.getStats();
		for (const pair of stats.values())
			if (pair.type === "candidate-pair" && pair.nominated && pair.bytesReceived > 0) return stats.get(pair.localCandidateId).candidateType;
		return "no pair";
	})()`); kind != "relay" {
		t.Errorf("the picture comes through a candidate of type %s", kind)
	}
}
