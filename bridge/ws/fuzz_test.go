package ws_test

import (
	"io"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge/ws"
)

// FuzzDoor sends what a hostile client may after the upgrade: any bytes. The door
// must end the connection, and a pair of others must not notice.
func FuzzDoor(f *testing.F) {
	join := masked(`{"type":"join","room":"garage","peer":"mallory","resume":true}`)
	for _, seed := range [][]byte{
		nil,
		join,
		append(join, masked(`{"type":"msg","to":"bob"}`)...),
		{0x81, 0x02, '{', '}'},                                                   // without a mask
		{0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, // a length below zero
		{0x01, 0x80, 0, 0, 0, 0, 0x00, 0x80, 0, 0, 0, 0, 0x00, 0x80, 0, 0, 0, 0}, // fragments without an end
		{0x89, 0x80, 0, 0, 0, 0, 0x8A, 0x81, 0, 0, 0, 0, '9'},                    // ping, and a pong nobody asked for
		{0x88, 0x81, 0, 0, 0, 0, 3},                                              // half a close code
		{0xC1, 0x80, 0, 0, 0, 0},                                                 // compressed, which was not agreed
		{0x82, 0x81, 0, 0, 0, 0, 1},
	} {
		f.Add(seed)
	}
	h := openPipes(f, func(c *ws.Config) { c.Write = 10 * time.Second })
	f.Fuzz(func(t *testing.T, data []byte) {
		bob := h.join(t, "bob")
		mallory := h.dial(t)
		go func() {
			_, _ = mallory.NetConn().Write(data) // a connection that was closed takes no more
			_ = mallory.NetConn().Close()
		}()
		_, _ = io.Copy(io.Discard, mallory.NetConn())
		bob.send(`{"type":"ping"}`)
		bob.skipTo(`"pong"`)
		bob.bye(1000)
	})
}
