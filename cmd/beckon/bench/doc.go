// Package bench is "beckon bench": a load generator for a Beckon server, or any
// plain MQTT broker, by any of its doors. It says what a message costs.
//
//	calls   pairs in rooms of their own: offer and 4 candidates there, answer and
//	        4 candidates back, bye; flat out, or so many calls a second
//	fanout  one peer says something to all others in its room
//	idle    connections that have joined, and say nothing
//	storm   all connections are cut at once, and come back
//
// A [peer] is one connection, with one goroutine, its reader. Its [link] speaks
// for it at a door: MQTT 3.1.1 by the few packets of packet.go, over TCP or in
// WebSocket messages, or frames of JSON. What to do with what arrives is the
// subcommand's. The generator shares the machine with the server, so it keeps no
// sample of anything and parses nothing it wrote itself: see message.go.
//
// A plain broker serves as well as Beckon, since every MQTT peer subscribes to its
// own inbox, rtc/v1/{room}/to/{peer}/+, and nothing here depends on presence. The
// door ws is Beckon's alone. The doors peerjs and relay are other servers' own, so
// that one generator puts the same load on all of them (see examples/compare).
//
// # What is counted
//
//   - Published: messages handed to the server. Delivered: copies of them that
//     reached the peer they were for, each once; in calls one for each publish, in
//     fanout one for each receiver.
//   - Lost: what should have been delivered and was not, within --timeout after the
//     last was sent. Every message is numbered by its sender. Doubled: delivered
//     again (QoS 1 may). Disordered: delivered after a later one.
//   - Errors: what the server said went wrong, by code. Such messages are lost, too.
//   - Latency: in calls from the offer's being sent, or its being due if its pair was
//     still busy, to the answer's arrival; in fanout from one publish to each
//     delivery; in storm from the cut to having joined again. Warm-up is left out.
//   - CPU per message: user and system time that the process of --pid took while it
//     was measured (warm-up left out, the last deliveries included), over messages
//     delivered in that time. The clock of /proc ticks every 10 ms. What the kernel
//     does for the server outside of its threads is not in it.
//   - Memory per connection: resident memory of that process after all have joined,
//     in idle at the end of the hold, less that before the first connected, over the
//     connections. A server that was under load before gives less than it takes.
//   - Joining, with all that it makes the server say, is over before load begins.
//
// # Who connects
//
// Peers are named like v-3fa85c-17: viewer 17 of this run. The MQTT client id is the
// peer's name, so a server with --dev takes them as they come, and so does a broker
// that lets anyone in. An identity has one name, so one
// account or token is one peer to Beckon; the others would be refused.
// --jwt-key signs a token for each peer, as "beckon token" would. --username and
// --password are shown by all, which suits plain brokers.
package bench
