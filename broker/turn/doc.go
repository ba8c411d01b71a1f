// Package turn gives peers the ICE servers of a call: their addresses with
// credentials that end soon ([Servers]), and, for whoever has no such server, one
// of its own ([Listen]: STUN and TURN, RFC 8489 and RFC 8656, by pion/turn).
//
// The credentials are those of the TURN REST scheme, which coturn takes as
// use-auth-secret: the user name is "{end, in Unix seconds}:{name of the
// identity}", the password the base64 of its HMAC-SHA1 under a secret that the
// TURN server knows, too. Nothing is stored on either side.
//
// What the server here adds to pion's: whom it relays to (peers.go), what an
// identity and all of them may have at a time (relay.go), and that no client can
// hold a connection for nothing or make pion work on a broken frame (stream.go,
// datagram.go). It relays UDP only, as WebRTC needs it, and offers no reserved
// ports.
package turn
