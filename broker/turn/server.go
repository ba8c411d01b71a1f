package turn

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	pion "github.com/pion/turn/v5"
)

// Server is an embedded STUN and TURN server.
type Server struct {
	config  ListenConfig
	udp     []*datagrams
	tcp     []*streams
	relays  *relays
	refused *refusals
	ledger  *ledger
	server  *pion.Server
	once    sync.Once
}

// Listen starts a server. It reports every mistake in the configuration.
func Listen(c ListenConfig) (*Server, error) {
	c.setDefaults()
	addrs, sides, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, refused: &refusals{log: c.Logger}, ledger: newLedger(c.TTL, c.Now)}
	s.relays = &relays{
		ports: [2]uint16{c.MinPort, c.MaxPort}, perIdentity: c.MaxPerIdentity, most: c.MaxRelays, perSecond: c.MaxRate,
		longest: c.MaxLifetime, sides: sides, log: c.Logger,
		byAddress: make(map[netip.AddrPort]*relay), byConnection: make(map[connection]*relay), held: make(map[string]int),
	}
	s.relays.peers = &peers{allow: c.AllowPeers, relays: s.relays, began: time.Now()}
	for _, addr := range addrs {
		if err := s.listen(addr); err != nil {
			s.closeSockets()
			return nil, err
		}
	}
	s.server, err = pion.NewServer(s.pionConfig())
	if err != nil {
		s.closeSockets()
		return nil, err
	}
	return s, nil
}

// listen opens an address for UDP and TCP. Port 0 is any that both have.
func (s *Server) listen(addr netip.AddrPort) error {
	for try := 0; ; try++ {
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return fmt.Errorf("the TURN server cannot listen on %v: %w", addr, err)
		}
		at := netip.AddrPortFrom(addr.Addr(), addrPort(udp.LocalAddr()).Port())
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			_ = udp.Close()
			if addr.Port() == 0 && try < 20 {
				continue
			}
			return fmt.Errorf("the TURN server cannot listen on %v: %w", addr, err)
		}
		s.udp = append(s.udp, &datagrams{UDPConn: udp, relays: s.relays})
		s.tcp = append(s.tcp, newStreams(tcp, s.config.TLS, s.relays))
		s.relays.peers.listening = append(s.relays.peers.listening, at.Port())
		return nil
	}
}

func (s *Server) pionConfig() pion.ServerConfig {
	c := pion.ServerConfig{
		Realm:              s.config.Realm,
		AuthHandler:        s.authenticate,
		QuotaHandler:       s.quota,
		LoggerFactory:      pionLog{s.config.Logger},
		AllocationLifetime: 10 * time.Minute, // RFC 8656, 3.2
		PermissionTimeout:  permission,       // 9
		EventHandler: pion.EventHandler{
			OnAuth:              s.authenticated,
			OnAllocationCreated: s.allocated,
			OnAllocationDeleted: s.deallocated,
			OnChannelCreated: func(from, to net.Addr, _, _, _ string, _, _ net.Addr, _ uint16) {
				s.channel(from, to, channelOpened)
			},
			OnChannelDeleted: func(from, to net.Addr, _, _, _ string, _, _ net.Addr, _ uint16) {
				s.channel(from, to, channelClosed)
			},
		},
	}
	for _, udp := range s.udp {
		c.PacketConnConfigs = append(c.PacketConnConfigs, pion.PacketConnConfig{
			PacketConn: udp, RelayAddressGenerator: generator{s.relays},
			PermissionHandler: func(from net.Addr, peer net.IP) bool { return s.permit(newConnection(from, udp.LocalAddr()), peer) },
		})
	}
	for _, tcp := range s.tcp {
		c.ListenerConfigs = append(c.ListenerConfigs, pion.ListenerConfig{
			Listener: tcp, RelayAddressGenerator: generator{s.relays},
			PermissionHandler: func(from net.Addr, peer net.IP) bool { return s.permit(tcp.connectionOf(from), peer) },
		})
	}
	return c
}

// authenticate returns the identity of a request and the key that must have
// signed it. Credentials that have ended make no relay any more, but keep one
// that there is over the same connection, as coturn has it: a browser cannot
// change them in a call. MaxLifetime ends that, and so does End: revoked ones are
// good for nothing, neither a new relay nor one that there is.
func (s *Server) authenticate(request *pion.RequestAttributes) (name string, key []byte, ok bool) {
	const allocate = 0x003 // RFC 8656, 17
	name, end, err := parseUsername(request.Username)
	now := s.config.Now()
	switch {
	case err != nil:
		s.refused.note("", err.Error())
		return "", nil, false
	case request.Realm != s.config.Realm:
		s.refused.note(name, "the realm is not that of this server")
		return "", nil, false
	case s.ledger.revoked(name, end):
		s.refused.note(name, "the credentials were revoked")
		return "", nil, false
	case end.After(now.Add(mostAhead)) && request.Method == allocate:
		s.refused.note(name, "the credentials end more than a day ahead, which none of this server do; was the clock set?")
		return "", nil, false
	case now.After(end) && (request.Method == allocate || !s.relays.has(name, request.SrcAddr)):
		s.refused.note(name, "the credentials have ended")
		return "", nil, false
	}
	return name, pion.GenerateAuthKey(request.Username, s.config.Realm, password(s.config.Secret, request.Username)), true
}

func (s *Server) authenticated(_, _ net.Addr, _, username, _, _ string, verdict bool) {
	if !verdict {
		name, _, _ := parseUsername(username)
		s.refused.note(name, "the credentials are not of this server's secret")
	}
}

// quota answers with 486 where it can; relays.open has the last word.
func (s *Server) quota(name, _ string, _ net.Addr) bool {
	if err := s.relays.room(name); err != nil {
		s.refused.note(name, err.Error())
		return false
	}
	return true
}

func (s *Server) allocated(from, to net.Addr, _, name, _ string, at net.Addr, _ int) {
	c := newConnection(from, to)
	if s.relays.taken(c, addrPort(at)) == nil {
		return
	}
	s.config.Logger.Info("relay made", "peer", name, "via", c.network)
	s.stream(c, true)
}

func (s *Server) deallocated(from, to net.Addr, _, _, _ string) {
	s.stream(newConnection(from, to), false)
}

// stream tells the listener of a connection over TCP whether it is put to use.
func (s *Server) stream(c connection, used bool) {
	if c.network != "tcp" {
		return
	}
	for _, tcp := range s.tcp {
		tcp.allocated(c, used)
	}
}

func (s *Server) channel(from, to net.Addr, change int) {
	if r := s.relays.of(newConnection(from, to)); r != nil {
		r.channel(change)
	}
}

// permit decides about a permission or a channel.
func (s *Server) permit(c connection, peer net.IP) bool {
	r := s.relays.of(c)
	a, ok := netip.AddrFromSlice(peer)
	if r == nil || !ok {
		return false
	}
	a = a.Unmap()
	if err := s.relays.peers.check(a); err != nil {
		s.config.Logger.Debug("relay target refused", "peer", r.name, "target", a, "why", err) // browsers try every candidate
		return false
	}
	return r.grant(a)
}

// URLs are those of the server for Config.URLs. A turns: URL needs a name that
// the certificate has, so it is not among them.
func (s *Server) URLs() []string {
	var urls []string
	for i, udp := range s.udp {
		at := addrPort(udp.LocalAddr())
		host := at.Addr()
		for _, side := range s.relays.sides {
			if host.IsUnspecified() || host.Is4() == side.announced.Is4() {
				hostport := netip.AddrPortFrom(side.announced, at.Port()).String()
				for _, url := range []string{"stun:" + hostport, "turn:" + hostport + "?transport=udp", "turn:" + hostport + "?transport=tcp"} {
					if i == 0 || !slices.Contains(urls, url) {
						urls = append(urls, url)
					}
				}
			}
		}
	}
	return urls
}

// Addrs are where the server listens, over UDP and TCP.
func (s *Server) Addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, udp := range s.udp {
		addrs = append(addrs, addrPort(udp.LocalAddr()))
	}
	return addrs
}

// Relays is how many relays there are.
func (s *Server) Relays() int { return s.relays.count() }

// End revokes the identities that which chooses, such as those whose accounts
// were taken back. Their relays carry nothing any more when it returns, and the
// credentials that they were told before are refused until they would have ended
// anyway; those told afterwards are good. It asks once for each name that has a
// relay, or credentials of Servers with this server that have not ended, or is
// among names, and only after it has found out which names these are.
func (s *Server) End(which func(name string) bool, names ...string) {
	chosen := make(map[string]bool)
	for _, name := range slices.Concat(s.relays.names(), s.ledger.names(), names) {
		if _, asked := chosen[name]; !asked {
			chosen[name] = which(name)
		}
	}
	for name, ends := range chosen {
		if ends {
			s.ledger.revoke(name)
		}
	}
	s.relays.end(func(name string) bool { return chosen[name] })
}

// Close ends the server and all relays, and waits for them.
func (s *Server) Close() error {
	s.once.Do(func() {
		s.relays.close()
		for _, tcp := range s.tcp {
			_ = tcp.Close()
		}
		for _, udp := range s.udp {
			_ = udp.Close() // ends pion's loops, which close the relays
		}
		s.relays.ended.Wait()
	})
	return nil
}

func (s *Server) closeSockets() {
	for _, udp := range s.udp {
		_ = udp.Close()
	}
	for _, tcp := range s.tcp {
		_ = tcp.Close()
	}
}

// generator makes the sockets of pion's allocations.
type generator struct{ relays *relays }

func (generator) Validate() error { return nil }

func (g generator) AllocatePacketConn(c pion.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	r, err := g.relays.open(c.Network, c.UserID)
	if err != nil {
		return nil, nil, err
	}
	return r, net.UDPAddrFromAddrPort(r.address), nil
}

// Relays of TCP (RFC 6062) would let clients open connections from here.
func (generator) AllocateListener(pion.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errUDPOnly
}

func (generator) AllocateConn(pion.AllocateConnConfig) (net.Conn, error) { return nil, errUDPOnly }
