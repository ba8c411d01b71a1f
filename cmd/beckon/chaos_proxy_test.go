package main

import (
	"encoding/json"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// toxic is one of toxiproxy's, with its attributes; "" is none.
type toxic struct{ kind, attributes string }

var (
	clean = toxic{"noop", `{}`}

	latency = toxic{"latency", `{"latency":60,"jitter":40}`}       // ms
	slices1 = toxic{"slicer", `{"average_size":1}`}                // one byte at a time
	trickle = toxic{"bandwidth", `{"rate":1}`}                     // 1 KB/s
	reset   = toxic{"reset_peer", `{"timeout":0}`}                 // RST at the next byte
	silence = toxic{"timeout", `{"timeout":0}`}                    // nothing passes, nothing is closed
	jumble  = toxic{"slicer", `{"average_size":200,"delay":2000}`} // packets of 200 bytes, 2 ms apart
)

// wrap makes what a conduit runs. The program of toxiproxy does so from HTTP requests.
func (x toxic) wrap(t testing.TB) *toxics.ToxicWrapper {
	w := &toxics.ToxicWrapper{Name: x.kind, Type: x.kind, Toxicity: 1}
	if toxics.New(w) == nil {
		t.Fatalf("toxiproxy has no toxic %q", x.kind)
	}
	if err := json.Unmarshal([]byte(x.attributes), w.Toxic); err != nil {
		t.Fatal(err)
	}
	return w
}

// proxy stands between clients and a server, and runs a toxic on every conduit, in
// both directions. It has conduits of its own, since those of toxiproxy leave
// goroutines behind when one side is gone, and can wait for each other for ever.
type proxy struct {
	t        testing.TB
	upstream string
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	always   toxic // on conduits that begin
	conduits map[*conduit]struct{}
}

func startProxy(t testing.TB, upstream string) *proxy {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, upstream: upstream, listener: listener, always: clean, conduits: make(map[*conduit]struct{})}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for l := range p.conduits {
		l.end()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.connect(client.(*net.TCPConn), server.(*net.TCPConn))
	}
}

func (p *proxy) connect(client, server *net.TCPConn) {
	_ = server.SetReadBuffer(128 << 10) // so that a stall is felt soon
	l := &conduit{client: client, server: server, mute: make(chan struct{}), over: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.up, l.down = newPipe(l, client, server, p.always.wrap(p.t)), newPipe(l, server, client, p.always.wrap(p.t))
	if p.closed {
		l.end()
		return
	}
	p.conduits[l] = struct{}{}
	var pipes sync.WaitGroup
	for _, one := range []*pipe{l.up, l.down} {
		pipes.Go(one.read)
		pipes.Go(one.run)
		pipes.Go(one.write)
	}
	p.running.Go(func() {
		pipes.Wait()
		l.end()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conduits, l)
	})
}

// infect runs x on every conduit that is there. A reset is one with RST, and a
// silence keeps even the end of a connection from the other side.
func (p *proxy) infect(x toxic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.conduits {
		switch x {
		case reset:
			_ = l.client.SetLinger(0)
			_ = l.server.SetLinger(0)
		case silence:
			l.silenced.Do(func() { close(l.mute) })
		}
		for _, one := range []*pipe{l.up, l.down} {
			if one.stub.InterruptToxic() {
				one.next <- x.wrap(p.t)
			}
		}
	}
}

// on runs x on the conduits that will be, too.
func (p *proxy) on(x toxic) {
	p.mu.Lock()
	p.always = x
	p.mu.Unlock()
	p.infect(x)
}

// stall stops reading what the server says, until the returned func is called.
func (p *proxy) stall() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gate := make(chan struct{})
	for l := range p.conduits {
		l.down.stall(gate)
	}
	return sync.OnceFunc(func() { close(gate) })
}

// conduit is a connection through a proxy.
type conduit struct {
	client, server *net.TCPConn
	up, down       *pipe

	mute     chan struct{} // closed when an end is not passed on
	silenced sync.Once
	over     chan struct{}
	once     sync.Once
}

func (l *conduit) end() {
	l.once.Do(func() {
		close(l.over)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}

// pipe is one direction of a conduit: reader, toxic, writer.
type pipe struct {
	conduit  *conduit
	src, dst *net.TCPConn
	in, out  chan *stream.StreamChunk
	stub     *toxics.ToxicStub
	first    *toxics.ToxicWrapper
	next     chan *toxics.ToxicWrapper

	mu   sync.Mutex
	gate chan struct{} // not nil: nothing is read until it is closed
}

func newPipe(l *conduit, src, dst *net.TCPConn, first *toxics.ToxicWrapper) *pipe {
	p := &pipe{conduit: l, src: src, dst: dst, first: first,
		in: make(chan *stream.StreamChunk, first.BufferSize), out: make(chan *stream.StreamChunk), next: make(chan *toxics.ToxicWrapper)}
	p.stub = toxics.NewToxicStub(p.in, p.out)
	return p
}

func (p *pipe) stall(gate chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = gate
}

// wait passes when the gate is open, or the conduit over.
func (p *pipe) wait() {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	if gate == nil {
		return
	}
	select {
	case <-gate:
	case <-p.conduit.over:
	}
}

func (p *pipe) read() {
	defer close(p.in)
	buffer := make([]byte, 4<<10)
	for {
		p.wait()
		n, err := p.src.Read(buffer)
		if n > 0 {
			p.in <- &stream.StreamChunk{Data: append([]byte(nil), buffer[:n]...), Timestamp: time.Now()}
		}
		if err != nil {
			return
		}
	}
}

// run runs one toxic after another, until one has closed the pipe.
func (p *pipe) run() {
	for w := p.first; ; w = <-p.next {
		p.stub.Run(w)
		if p.stub.Closed() {
			break
		}
	}
	for range p.in { // a reset does not wait for the end
	}
}

// write writes what passed, and closes the other side after it, unless that is not
// to hear of it. It takes what comes until the end: nobody waits for a dead side.
func (p *pipe) write() {
	broken := false
	for chunk := range p.out {
		if broken {
			continue
		}
		if _, err := p.dst.Write(chunk.Data); err != nil {
			broken = true
			_ = p.dst.Close()
		}
	}
	select {
	case <-p.conduit.mute:
		<-p.conduit.over
	default:
	}
	_ = p.dst.Close()
}
