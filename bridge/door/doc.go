// Package door opens a listener to every protocol: it looks at the first byte
// of a connection and hands it on, so that nobody has to know which port speaks
// what.
//
//	0x16       TLS (1.2 and later); then the same look at the first byte inside
//	0x10       MQTT CONNECT: the broker
//	a letter   HTTP/1.1: its handlers, which may upgrade to WebSocket
//	any other  closed
//
// A proxy of [Config.TrustedProxies] may say before all that, in a PROXY header, or
// in Forwarded and X-Forwarded-For, whose connection or request it is. That is the
// address of it from there on: RemoteAddr of a connection and of a request, and
// what limits per address count. Nobody else is believed.
//
// With [Config.TLSOnly] what comes without TLS, and not from loopback, is told so
// in a CONNACK or an HTTP answer. What a trusted proxy says of its client's side
// counts first.
//
// [Door] owns every connection from accept until it has ended: its deadline and
// its place under the caps until it is admitted (the server has answered it),
// and its end when the door is closed. What is said on it is not looked at.
//
// New connections have a budget, in all and by address. One over it is told so in
// its protocol, where that does not take a handshake; see [Arrivals].
// While [Config.Admit] says that there is too little left, none is served, and each
// is told so; requests may still be answered ([Refused]), and HTTP connections that
// are only kept for another request end.
//
// An HTTP connection that has its answer is kept for another request as long as a
// handshake may take; that of a trusted proxy, or of a client that was authenticated
// ([Known]), for longer than proxies keep theirs. What a client has not taken when the
// time is up, of an idle connection or of a write, is thrown away with the socket.
//
// A connection is read from no faster than [Config.Bytes] says, whatever it speaks;
// the rest waits at its sender. By one of HTTP come no more requests than
// [Config.Requests], one after the other: there is no HTTP/2, whose streams would need
// limits of their own.
//
// Half a CONNECT, of 4,000 bytes, takes 12 KiB of heap and stack by TCP and 14 by
// WebSocket: 5 for what it has said, 4 for the stack of the goroutine that waits for
// the rest. TLS adds 9, which crypto/tls holds for keys, and for a buffer as long as
// the longest record that its client has begun: 6 here, 18 for one that claims 16. It
// is not for us to lend.
//
// [WebSocket] is the way in for MQTT over WebSocket: it turns one into a
// net.Conn and hands it to the same broker.
package door
