// Package bridge is what all doors but MQTT share: a client's [Session] on the
// [Bus], spoken in the JSON frames that asyncapi.yaml describes. A door brings the
// frames in ([Session.Receive]) and takes those that go out ([Client.Out]);
// sockets, queues, pings and close codes are the door's. Who may do what, what
// a valid message is and who is there is the bus's: a session reads routing
// members only.
//
//	frame  --read, cut room, to, id--> Bus.Say
//	inbox  --splice room, from, all--> frame
//
// A session is what is said on one connection. From its first join on it has a
// stay: the client's time on the bus, which outlives a connection that was lost by
// the time in which the client may resume it on another. The stay numbers what the
// client is told and remembers it until the client has it ([Session.Seen]); what is
// for a client without a connection waits on the bus. Whoever has a stay ends it: the
// session of its connection, the bus while it is suspended, or who has claimed it to
// resume it and did not.
//
// Of an HTTP request [Credentials] and [Body] are read, [Origins] checked, and errors
// answered by [Refuse], the same at each door.
//
// A message is read once, by [topics.Read], and never encoded anew: bytes other than the
// routing members leave as they came. [Pace] is the budget of a client's frames, for the
// doors, and [Budget] that of an account's requests. The package imports the standard
// library, topics and topics/pace, and golang.org/x/time/rate for the latter budget.
//
// # Where the contract was silent
//
//   - The first join that names a room and a peer properly authenticates, once
//     for the connection. If that fails the connection ends, after the error,
//     with the close code of the error. A join that is refused for its room
//     leaves the connection as it was, so another room may be tried.
//   - A token in a later join is not looked at: a connection has one identity.
//     A later join as another peer is 403.
//   - Joining a room again is a way to start over: the presence is updated if
//     one is given, and "joined" tells who is there and new ICE servers. What
//     happens meanwhile follows "joined".
//   - A presence without "online" is online. One that says false leaves, as in
//     MQTT; in a join it is 400. A presence that is null is 400: use leave.
//   - After leaving its last room a connection lives and may join again; until
//     then it is answered 403.
//   - "joined" carries the id and is its answer. "pong" carries none: a ping
//     with an id gets an "ok" after it.
//   - A member "all" in a client's frame is refused like "from".
//   - "peer", "token" and "presence" mean something in join, presence and
//     refresh only; in a message they are members like any other. "to" means
//     nothing there.
//   - An id that is a number has at most 64 digits and signs. A malformed frame
//     is answered with its id, if the id could be read.
//   - "resume" in a join is true (the client can resume: it has 30 s instead of the
//     grace), or the key that "joined" gave. The first join of a connection counts.
//     It shows its credentials like every join, and its room must be one of the
//     session's; a key that is unknown, or another identity's, is as if there were
//     none, but the answer says "resumed":false. "seen" left out has everything
//     said again that is remembered.
//   - A session that is resumed while its connection seems to live is taken from
//     it: that one ends with 409.
//   - An error carries "room" when it is known, and comes without "from".
//   - What was accepted for the client and no longer fits (its own answers,
//     presence, errors) ends the connection as too slow: so nothing is missing
//     in what a client was told. A message that does not fit is an error to its
//     sender, and the connection lives.
//   - An error from the bus that is about no room (the credentials expired or
//     were taken back) ends the connection, with the close code of the error. One
//     that is 403 and about no message says that a room is not granted any more.
//   - Who resumes with less than it was granted in a room that it keeps, or was granted
//     less meanwhile, is answered "resumed":false: what it missed was for who it was.
//   - Who resumes after a room was taken away gets a "pong" for each frame about that
//     room, but for errors: nothing of it is said again, and the numbers stay.
package bridge
