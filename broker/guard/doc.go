// Package guard is the strict check in front of the MQTT broker.
//
// A [Conn] wraps the connection of one client. It knows MQTT packets and nothing
// about rooms.
//
//	socket --> whole packets --> strict check --+--> Next: the broker
//	                                            +--> onAck: PUBACK, PUBREC, PUBCOMP
//	socket <-- one write of all that waits <-- bounded queue <-- Write, Send: the broker
//
// What it owes the broker:
//
//   - Next hands on whole packets, byte for byte, and only those that obey MQTT
//     3.1.1 (3.1 is read by the same rules) or 5 and the [Limits]. Memory grows
//     with the bytes that came, never with the length that is claimed. Anything
//     else ends the connection with a [Violation], and the client is told why
//     where its version of the protocol has words for it.
//   - Write and Send never block. They take a packet whole or, with
//     [ErrQueueFull], not at all. A receiver that stalls is cut off.
//   - A client has a budget of packets. It is slowed down by not being read from,
//     and cut off when that does not help for a second, of which a tenth of the
//     time after it is forgotten (package pace).
//   - Nothing waits for ever: not the CONNECT, not a packet that has begun, not a
//     write, not the end. An idle connection costs no goroutine, and half a kilobyte
//     to be read into.
//
// State: the read side (stream, checker) belongs to whoever is in Next; the
// queue has its own mutex and, while there is something to write, one writer: a turn
// ([Limits].Soon), which gives the socket what it takes at once, or a goroutine, which
// waits for the rest and is also what closes the socket; deadlines and the
// end are under Conn.mu. [Conn.Done] is closed when nothing of the Conn is left.
//
// What it does not do: it asks nobody who the client is or what it may, keeps
// no session and no packet identifiers in use, does not count inflight messages,
// and answers nothing but its own refusals.
package guard
