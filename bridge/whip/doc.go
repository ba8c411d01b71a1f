// Package whip is the door for players and broadcasters that speak HTTP: WHEP
// (draft-ietf-wish-whep) to play what a peer sends, WHIP (RFC 9725) to send it
// media. A request with an SDP offer becomes a peer of the room, and its offer a
// message to the device; the device's answer is the answer to the request.
//
//	POST /whep/{room}/{peer}         offer --> device --> answer, candidates --> 201
//	PATCH, DELETE .../{key}          candidates; ICE restart; bye
//
// A [Handler] owns its sessions: each is a peer "http-..." on the bus and a URL of
// 130 random bits. A session has no goroutine: it lives in its requests and in its
// inbox. What is in an SDP is read in lines, by functions on text (sdp.go,
// fragment.go), and kept as it is. Who may call whom is the bus's to say: the
// identity of the made peer is [topics.Identity.Guest] of that of the request.
//
// # Where the contract and the standards were silent
//
//   - The offer to the device carries no iceServers: a device has its own from its
//     hello, those in the http peer's hello are that peer's, and firmware has 4 KiB
//     for a message. The client gets them as Links, in the 201 and after a restart.
//   - A device that says "trickle":false, or nothing of it and answers with
//     candidates and without "a=ice-options:trickle", has said all: no wait.
//     Otherwise the answer waits for the end of candidates, for 300 ms of quiet
//     since the newest, and for 1.5 s at most. What comes later cannot reach an
//     HTTP client, and is dropped. Candidates that name another ufrag than the
//     answer are left out.
//   - With bundled media (and by default) candidates stand in the section that the
//     bundle has its transport from, otherwise each in its own.
//   - A device that is offline is waited for until the deadline, if the bus holds
//     the offer for it (it is woken); then 409. It was there and gave no answer: 504.
//     A bye in place of an answer is 503 for the reason "busy", 409 for "gone", else
//     422. The client's going away ends the call.
//   - A device that makes the offers itself ("offers":true) is 422: WHIP, and WHEP as
//     players have it, let the client offer. A counter-offer is a 406, which players
//     take for "try again without audio", and an offer cannot be turned into an
//     answer to another. 406 is never answered.
//   - A session whose client falls silent stays until its device says bye or goes, or
//     its credentials end: its media may well flow, and only the device sees whether.
//     Where the sessions of a device are used up (--limit-sessions) new ones are 503;
//     none is ended for another.
//   - An account opens ten sessions a second (--limit-joins); beyond that it waits up
//     to a second, then it is 429. Messages count under the budget of a connection,
//     which each session is; and PATCHes under one of the account, since they cost
//     something even if they make no message.
//   - A session ends with its credentials. Its media may go on, as a device may take
//     a bye of reason "gone" for lost signaling.
//   - The session's URL is what its client needs to show. Credentials that are shown
//     there all the same must be those of the POST, or good and of the same name.
//   - If-Match is held against the ETag when there is one, in a header ETag if need
//     be, with or without quotes. A PATCH without is taken, unless Config.Strict.
//   - An ice-ufrag that is new, with an ice-pwd, is a restart. The device gets the
//     stored offer with both, and the candidates of the fragment. An answer with the
//     old ufrag is no restart: 422, and the session goes on as it was, as it does
//     after a 504. An answer that comes after that, within 30 s, is to that offer and
//     not to the next; unless no other follows it, after which none is waited for.
//   - In the answer to a restart all candidates but one end with a bare LF: the client
//     of the standards' authors breaks off the call if it finds two, and takes CRLF
//     for their end.
//   - A PATCH of several candidates that meets that budget on the way is 429 although the
//     device has the first of them. When its client sends it again the device hears
//     those twice, which ICE takes for one.
//   - An end of candidates that overtakes its candidates is passed on as it comes, and
//     so are they after it. It has no m-section when it stands before all of them.
//   - Pages of any site may use it (Access-Control-Allow-Origin: *): they show
//     credentials of their own, and none that a browser adds by itself are allowed.
//     With Origins.Dev, where none are needed, local pages only.
//   - Basic is taken, but not asked for, which would open a browser's dialog.
//   - A drain answers new offers with 503 and ends no session.
//   - What a device says to the http peer that is no answer, candidate or bye is
//     refused to it (486).
package whip
