// Package ws is the door for JSON over WebSocket (frames: asyncapi.yaml): it
// upgrades, reads frames into a [bridge.Session] and writes what comes out of
// it. Rooms, routing and answers are the session's; who may do what is the
// bus's. Sockets are gorilla/websocket's, without compression.
//
//	client --> reader --> Session.Receive --> bus
//	client <-- writer <-- queue <-- Session's Out <-- bus
//
// A connection has one goroutine, its reader, which ends it; a writer runs only
// while something is waiting. What waits together leaves in one write. What the socket
// takes at once is written in a turn (Config.Soon), which never waits; a writer has a
// goroutine of the connection's own only for the rest.
// When nothing has come for some seconds, another reader takes over, whose stack is
// small.
//
// # Where the contract was silent
//
//   - A frame longer than the limit is an error 413, with its id if that stood
//     within the limit. Beyond four times the limit the connection is closed
//     with 4501.
//   - Before the first join the limit is 8 KiB, and a longer frame closes the
//     connection with 4510, after the error.
//   - The first join has 10 s from when the client connected, TLS and upgrade among them.
//   - A close frame without a code, which is what close() of a browser sends,
//     is a leave, as 1000 and 1001 are. Everything else is a lost connection,
//     and so is every connection that the server closes or has told to go
//     elsewhere: its calls go on.
//   - A connection is silent when it sent no whole frame, pongs included. Two
//     pings without any answer cut it: 40 s after the first of them.
//   - A receiver has 4 to 5 s for every 16 KiB; then it is cut. When the queue is
//     full of messages their senders are told (486) and the connection lives;
//     when something else does not fit it is closed with 4008.
//   - Violations of RFC 6455 itself (no mask, unknown opcodes) close with its
//     own 1002.
//   - Frames of any kind have a budget, pings and garbage among them. Who is over
//     it is not read from for a while; when that took a second in all the client is
//     told (429) and closed with 4029.
//   - A ping that was not answered yet is answered together with a later one
//     (RFC 6455, 5.5.3).
//   - Credentials: a token in the first join goes before Authorization, that
//     goes before access_token. Basic is taken, too. Other schemes are not
//     looked at.
//   - goaway tells in how many seconds this connection will be closed with
//     4001. The seconds differ, so that not all come back at once.
package ws
