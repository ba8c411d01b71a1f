// Package rest is the door for clients that have HTTP and nothing else: who is
// there, a stream of events that is the membership, and messages, one a request.
//
//	GET  /api/v1/rooms                               who is where
//	GET  /api/v1/rooms/{room}/peers                  who is there
//	GET  /api/v1/rooms/{room}/peers/{me}/events      joins as me, until it ends
//	POST /api/v1/rooms/{room}/peers/{me}/messages    said by me, while it is open
//
// A stream is server-sent events (WHATWG HTML, 9.2): each event's data is a frame
// that asyncapi.yaml describes, from a [bridge.Session], which is where all that is
// said comes from. The [Handler] owns its streams; a stream lives in the goroutine
// of its request, which alone writes. What waits for it is in its queue.
//
// # Where the contract was silent
//
//   - An event's id is "{key}.{n}": the "resume" of "joined", and how many frames
//     there were. A browser shows the last one when it comes back (Last-Event-ID;
//     lastEventId in the query is for clients that cannot set it, and the header
//     goes before), and gets what it missed. "joined" says "resumed":true then, and
//     has the id of the event before it. "resumed":false: the client starts over.
//     What is of this connection alone (goaway) has no id.
//   - While the server goes, who asks for a stream is 503; but not an EventSource (it
//     has Accept: text/event-stream), which never comes back after an answer that is
//     not 200: it gets a stream of "retry" and goaway.
//   - A stream that ends, however it ends, is a connection lost: the peer has the
//     grace. There is no leave.
//   - A client whose peer was taken over by another connection is told (409), and
//     so is the next request with its last id, for a minute: a browser stops then,
//     where two pages would take over from each other for ever.
//   - What was written two to four seconds ago, while the stream lives, counts as
//     taken: the next connection is not given it again, and its sender is not told
//     that it did not arrive. A client that resumes is given it, for a minute.
//   - The presence is that of "presence" in the query, a JSON object; without it
//     {"online":true}. It stays as it is while the stream is open.
//   - A message is sent by whoever shows credentials of the name {me}, by the
//     newest stream of {me} in the room at this server; both must be granted it.
//     202 means delivered or held. Its "room" must be that of the path, and its
//     "id" is not looked at. Messages of a stream are one after the other, and
//     count under its budget.
//   - Only a stream is a connection (Config.Arrive). Any other request has its account's
//     budget of requests, as frames have one at the WebSocket; a look at who is there
//     costs as much as ten. Who is over it waits up to a second, then it is 429.
//   - A request has 7 s in all, for who asks, its body and its answer, and a stream as
//     long to begin; then it is 504, or 408 if its body did not come. The
//     door ends a request after 10 s.
//   - 408 of section 4 is 504 here, and 480 is 409; see [topics.Code.HTTP].
//   - Rooms lists only those where the identity sees somebody, and counts whom it
//     sees; a device that is offline and listed counts. A room that the identity
//     may not look into is 403, whether there is one or not; an empty one has no
//     peers.
//   - Pages: the rules of the WebSocket hold ([bridge.Origins]). An allowed origin
//     is named in Access-Control-Allow-Origin, any other gets 403. Browsers send no
//     Origin for an image; a stream or message that a page of another site causes
//     like that is 403, by Sec-Fetch-Site.
//   - Basic is taken, but not asked for, which would open a browser's dialog.
package rest
