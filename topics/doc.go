// Package topics is Beckon's wire contract, version 1: what may stand in a
// topic, in a message and in a grant, and how what goes wrong is told. Every
// door and the broker read and write through it, so that a rule stands once.
// It imports the standard library only and keeps no state.
//
//	{root}/v1/{room}/peers/{peer}    presence of a peer, retained
//	{root}/v1/{room}/to/{dst}/{src}  everything src says to dst
//	{root}/v1/{room}/all/{src}       what src says to everyone else in the room
//	{root}/v1/{room}/wake/{dst}      the server: a caller is waiting for dst
//
// The sender is the last level, so the broker can prove it; a receiver needs
// one subscription, {root}/v1/{room}/to/{me}/+; a reply swaps the last two
// levels. One topic per pair keeps an offer before its candidates.
//
// # Where the contract was silent
//
// These are the answers this implementation gives, for every door:
//
//   - A member name written with escapes ("fr\u006fm") is compared as what it
//     says. A "session" given twice is refused like a "type" given twice.
//   - A payload must be UTF-8: a browser closes a WebSocket on anything else.
//   - A literal level of a filter inside the root must be a name (or a kind of
//     topic, in its place); other filters are refused as malformed.
//   - A peer does not receive its own presence: nothing is echoed.
//   - What is sent to a peer that joined by its presence and whose inbox is
//     not subscribed yet waits for it for the grace, counted from its join;
//     then, and later, it is 480. So the order of the two does not matter.
//   - An [Observer] is no peer: it has no inbox and does not join.
//   - A connection that lost its last room to another connection of the same
//     identity is closed, after it was told (409).
//   - JSON over WebSocket can be resumed. "joined" carries "resume", a key; a join
//     on a new connection with that key as "resume", and as "seen" the number of
//     frames that came (all of the server's, from the first on the connection),
//     goes on where the lost connection ended: {"type":"joined","resumed":true,
//     "seen":...}, which has no number, then what was missed, in order, presences
//     and messages to all among it. Nobody saw the peer leave. There is the grace
//     for it, or 30 s for a client whose join said "resume":true; so a client that
//     knows nothing of resuming leaves no ghost for longer than section 1 says.
//     What cannot be resumed without a gap, or is more than the connection's queue
//     holds, is a join like any other, whose answer says "resumed":false. Of a room
//     that was taken away meanwhile nothing comes again: in the place of each frame
//     about it is a "pong".
//   - An "id" in a frame with "from" is what its sender wrote, and answers nothing:
//     only "ok", "error" and "joined" of the server's do.
//   - What is said to all is not kept for a peer in its grace, but for one whose
//     connection is resumed: it is for who is there. A direct message that a
//     connection did not take, or did not acknowledge, goes to the next connection of
//     the peer, so one of QoS 1 may come twice; without a next one its sender is told
//     480, and at once if the peer left the room, or lost it, while its connection
//     stays. What waited for that connection it gets no more then.
//   - What a WebSocket client was sent counts as delivered when it has answered a
//     ping that was sent later, at most a second, or when it leaves by itself; what it
//     may not have got when its connection is lost goes to its next one, or its sender
//     is told 480.
//   - An acknowledgement (PUBACK, "ok") says that the message is with the receiver's
//     connection, or held. A server that is killed in that moment may take the last
//     milliseconds with it: the sender sees its own connection end at the same time.
//   - A direct message has 20 s from when it was accepted, or the grace if that is
//     longer and its receiver was there; then its sender is told 480. That time does
//     not begin anew when the receiver comes back, is handed the message and is lost
//     before it acknowledges it, however often. Of what a connection had for longer
//     its sender is told when that is lost; a client that lacks it cannot resume,
//     and joins anew. A bye that the server or a door says waits for as long as its
//     receiver is expected: it would not learn it in any other way.
//   - Errors wait beyond the limit of 64 messages, and go to the next connection if
//     they are about a message and answer no frame with an id.
//   - What waits for a device in its grace goes on waiting when the grace ends, 20 s
//     in all: a session that has yet to begin, and what belongs to none.
//   - The sender of an offer that waited, and whose newer offer waits in its place,
//     is told 480 about the older one.
//   - An MQTT client may leave 1,024 messages unacknowledged, and as many bytes as
//     may wait for it. When more waits and it acknowledges nothing for 5 s (a longer
//     message has 5 s for each 32 KiB), or for 20 s if it asked for a smaller window,
//     it is cut off like one that does not read. An acknowledgement that no message
//     goes on by is not one: it counts as any other packet.
//   - A direct message with a Message Expiry Interval (MQTT 5, 3.3.2.3.3) waits no
//     longer than that: its sender is told then, 480, or 408 if its receiver was
//     connected and did not take it in time.
//   - The properties of a message (MQTT 5) count as its payload does where it waits.
//   - A filter of an MQTT SUBSCRIBE that asks for presences, or for what is retained
//     outside the rooms, counts as a message. A newer snapshot of a filter takes the
//     place of the one that still waits for the client, and UNSUBSCRIBE takes it away.
//   - An MQTT client for whose PUBACK or PINGRESP there is no room is cut off.
//   - A flood is not read from for a second before anything of it is refused. That
//     second is forgotten in ten, little by little; see package pace.
//   - Nobody publishes another's presence, an admin neither: it is made from the
//     peer's own connection. An admin speaks as anyone but the server.
//   - In --dev the MQTT user name "observer" is an observer of every room: an
//     integrator has something to try.
//   - Observers see the errors that peers are told, but not hello and ice, which
//     carry credentials.
//   - An error about a message that its sender cannot receive, since it never
//     subscribed to its inbox, is told by the MQTT 5 reason code only.
//   - An "error" from a client is wrong, but never answered with one for ever, as a
//     client may say again whatever it hears: over MQTT by the reason code only, and
//     over WebSocket by an "error" once on a connection, where whoever wrote the page
//     sees it; the others are not answered, with an "id" neither. They count as frames
//     and messages do.
//   - Presence is at most [MaxPresence] bytes: everyone in a room gets it.
//   - A message to the peer "_" other than "ice" is 400, and so is "ice" to
//     another peer or to all: a receiver could take it for the server's.
//   - A type of an application's own is "x-" and a name.
package topics
