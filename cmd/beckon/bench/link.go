package bench

import (
	"fmt"
	"net"
	"sync"
)

// link is a peer's connection by a door, joined to its room. One goroutine reads;
// any may write.
type link interface {
	// say sends a message to a peer of the room, "" for all of it.
	say(to string, m mark) error
	// ping asks for an answer that comes after all that was on its way.
	ping() error
	// read shows p what arrives, until the connection ends.
	read(p *peer) error
	// leave says goodbye and closes the connection.
	leave()
	// cut closes it without a word, as a lost network would.
	cut()
}

// space is room to put a message together in; no link keeps one while it is idle.
type space struct{ payload, packet []byte }

var spaces = sync.Pool{New: func() any { return new(space) }}

// cutOff ends a connection with a RST: nothing of it stays behind, and its port is
// free again.
func cutOff(tcp *net.TCPConn) {
	_ = tcp.SetLinger(0)
	_ = tcp.Close()
}

// refusal is an answer of the server that will be the same the next time.
type refusal struct{ error }

func refused(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }
