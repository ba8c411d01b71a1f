package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/broker/turn"
)

// iceSettings are the settings of ICE servers, a part of [serve].
type iceSettings struct {
	ICEServer     []string      `name:"ice-server" help:"ICE server to tell peers of, such as stun:stun.example:3478 or turn:turn.example:3478?transport=udp; may be repeated." env:"BECKON_ICE_SERVER" placeholder:"URL"`
	TurnSecret    string        `help:"Secret (16 bytes or more) that the turn: servers have, too (coturn: static-auth-secret), to make credentials that end." env:"BECKON_TURN_SECRET" placeholder:"FILE"`
	TurnListen    []string      `help:"Address for a STUN and TURN server in this program, such as :3478; may be repeated." env:"BECKON_TURN_LISTEN" placeholder:"ADDR"`
	TurnPublicIP  []string      `name:"turn-public-ip" help:"Address that this server is reached at from outside, behind a NAT or when it listens on every address; one of IPv4, one of IPv6." env:"BECKON_TURN_PUBLIC_IP" placeholder:"IP"`
	TurnAllowPeer []string      `help:"Private addresses that this server relays to, which it does not otherwise; may be repeated." env:"BECKON_TURN_ALLOW_PEER" placeholder:"CIDR"`
	TurnTTL       time.Duration `name:"turn-ttl" help:"How long credentials for turn: servers last." default:"10m" env:"BECKON_TURN_TTL"`
}

// check says what is wrong with them, all at once.
func (s *iceSettings) check() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	everywhere := len(s.TurnListen) > 0
	for i, addr := range s.TurnListen {
		host, port, err := net.SplitHostPort(addr)
		_, portErr := strconv.ParseUint(port, 10, 16)
		ip, ipErr := netip.ParseAddr(host)
		switch {
		case err != nil || portErr != nil || host != "" && ipErr != nil:
			add("--turn-listen %q is not an address: it takes ip:port, such as 192.0.2.7:3478, or :3478 for every address", addr)
		case slices.Contains(s.TurnListen[:i], addr):
			add("--turn-listen %s is given twice", addr)
		}
		everywhere = everywhere && (host == "" || ip.IsUnspecified())
	}
	if everywhere && len(s.TurnPublicIP) == 0 {
		add("--turn-listen %s is every address, so --turn-public-ip must say which one peers reach", strings.Join(s.TurnListen, ", "))
	}
	_, err := s.publicIPs()
	wrong = append(wrong, err)
	_, err = s.allowed()
	wrong = append(wrong, err)
	if len(s.TurnListen) == 0 {
		if len(s.TurnPublicIP) > 0 {
			add("--turn-public-ip is for --turn-listen, which is not given")
		}
		if len(s.TurnAllowPeer) > 0 {
			add("--turn-allow-peer is for --turn-listen, which is not given")
		}
	}
	secret, err := s.secret()
	if err != nil {
		wrong = append(wrong, err)
		secret = turn.NewSecret() // what else is wrong
	}
	urls := s.ICEServer
	if len(s.TurnListen) > 0 {
		if i := slices.IndexFunc(urls, func(url string) bool { return strings.HasPrefix(url, "turn") }); i >= 0 && s.TurnSecret == "" {
			add("--ice-server %s needs --turn-secret, which that server has, too: the one that --turn-listen makes up is known to itself only", urls[i])
		}
		urls = append(slices.Clone(urls), "turn:192.0.2.1") // its own, which it knows when it listens
	}
	if _, err := turn.New(turn.Config{URLs: urls, Secret: secret, TTL: s.TurnTTL}); err != nil {
		add("--ice-server, --turn-secret, --turn-ttl: %w", err)
	}
	if s.TurnTTL == 0 {
		add("--turn-ttl is 0: it takes 1m to 24h")
	}
	return errors.Join(wrong...)
}

func (s *iceSettings) publicIPs() ([]netip.Addr, error) {
	var ips []netip.Addr
	var wrong []error
	for _, text := range s.TurnPublicIP {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
			wrong = append(wrong, fmt.Errorf("--turn-public-ip %q is not the address of a machine, such as 192.0.2.7", text))
		}
		ips = append(ips, ip)
	}
	return ips, errors.Join(wrong...)
}

// allowed are the networks of --turn-allow-peer.
func (s *iceSettings) allowed() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	var wrong []error
	for _, text := range s.TurnAllowPeer {
		network, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("--turn-allow-peer %q is not a network, such as 192.168.1.0/24", text))
		case network != network.Masked():
			wrong = append(wrong, fmt.Errorf("--turn-allow-peer %s has bits beyond its length: did you mean %s, or %s/%d?", text, network.Masked(), network.Addr(), network.Addr().BitLen()))
		}
		networks = append(networks, network)
	}
	return networks, errors.Join(wrong...)
}

// secret is that of --turn-secret; without it, one of this run for the server
// in this program, if there is one.
func (s *iceSettings) secret() ([]byte, error) {
	if s.TurnSecret == "" {
		if len(s.TurnListen) > 0 {
			return turn.NewSecret(), nil
		}
		return nil, nil
	}
	file, err := os.ReadFile(s.TurnSecret)
	if err != nil {
		return nil, fmt.Errorf("--turn-secret: %w", err)
	}
	secret, err := turn.ParseSecret(file)
	if err != nil {
		return nil, fmt.Errorf("--turn-secret %s: %w", s.TurnSecret, err)
	}
	return secret, nil
}

// ice is what peers are told of ICE servers, and the one in this program.
type ice struct {
	*turn.Servers
	server *turn.Server // nil: there is none
}

// start opens the server, if there is to be one; config is for its turns:.
func (s *iceSettings) start(config *tls.Config, log *slog.Logger) (*ice, error) {
	public, publicErr := s.publicIPs()
	allowed, allowedErr := s.allowed()
	secret, err := s.secret()
	if err := errors.Join(publicErr, allowedErr, err); err != nil {
		return nil, usage(err)
	}
	i, urls := new(ice), slices.Clone(s.ICEServer)
	if len(s.TurnListen) > 0 {
		i.server, err = turn.Listen(turn.ListenConfig{
			Addrs: s.TurnListen, TLS: config, Secret: secret, TTL: s.TurnTTL, PublicIPs: public, AllowPeers: allowed, Logger: log,
		})
		if _, network := errors.AsType[*net.OpError](err); network {
			return nil, fmt.Errorf("--turn-listen: %w", err)
		}
		if err != nil {
			return nil, usage(fmt.Errorf("--turn-listen: %w", err))
		}
		urls = append(urls, i.server.URLs()...)
		log.Info("TURN and STUN, over UDP and TCP", "on", i.server.Addrs(), "urls", urls)
	}
	if i.Servers, err = turn.New(turn.Config{URLs: urls, Secret: secret, TTL: s.TurnTTL, Server: i.server}); err != nil {
		return nil, usage(errors.Join(err, i.close()))
	}
	return i, nil
}

// end ends what is relayed for the peers that are gone, and takes their
// credentials back. It asks for every name that has either, and for names.
func (i *ice) end(gone func(name string) bool, names ...string) {
	if i.server != nil {
		i.server.End(gone, names...)
	}
}

func (i *ice) close() error {
	if i.server == nil {
		return nil
	}
	return i.server.Close()
}
