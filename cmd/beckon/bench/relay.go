package bench

import "bytes"

// relayLink is the link by a server that hands every frame on to all others in the
// room, and knows nothing else: the least that can be. The room is the path of its
// URL, the frames are those of the door ws, and who is in the room looks whom they
// are for.
type relayLink struct {
	frames
	texts *texts
	mine  []byte // how a frame begins that is for this peer
}

// directed is how a frame begins that is for one peer.
const directed = `{"to":"`

func (l *relayLink) say(to string, m mark) error {
	s := spaces.Get().(*space)
	defer spaces.Put(s)
	return l.write(l.texts.frame(s, to, m))
}

func (l *relayLink) read(p *peer) error {
	return l.each(p, func(got []byte) {
		if !bytes.HasPrefix(got, []byte(directed)) || bytes.HasPrefix(got, l.mine) {
			p.take(got)
		}
	})
}
