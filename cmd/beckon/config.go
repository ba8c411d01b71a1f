package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// serve is the command that runs the server, and all its settings: each is a
// flag, an environment variable and a key of the file, in this order of
// precedence. check says what is wrong with them.
type serve struct {
	Config string `help:"YAML file of settings; its keys are these flags without the dashes." env:"BECKON_CONFIG" placeholder:"FILE"`
	Dev    bool   `help:"For a developer's own machine: let anyone in, as a peer of any room. Loopback only." env:"BECKON_DEV"`

	Listen []string `help:"Address to listen on, for every protocol; may be repeated. Default: :1883 and :8080, with --dev 127.0.0.1:1883 and 127.0.0.1:8080." env:"BECKON_LISTEN" placeholder:"ADDR"`
	Origin []string `help:"Origin whose pages may connect, such as https://app.example; may be repeated. The server's own always may." env:"BECKON_ORIGIN" placeholder:"URL"`

	TrustedProxy []string `help:"Network of reverse proxies whose PROXY header, Forwarded and X-Forwarded-For are believed, such as 127.0.0.1 or 10.0.0.0/8; may be repeated." env:"BECKON_TRUSTED_PROXY" placeholder:"CIDR"`

	accountSettings `group:"Who may come in:"`
	tlsSettings     `group:"TLS:"`
	iceSettings     `group:"ICE servers:"`

	Root         string        `help:"First level of every topic, or the first two." default:"rtc" env:"BECKON_ROOT"`
	Grace        time.Duration `help:"How long a peer whose connection was lost may take to come back. 0: no time." default:"5s" env:"BECKON_GRACE"`
	Resume       time.Duration `help:"How long a WebSocket client that says that it resumes may take to come back; --grace at least." default:"30s" env:"BECKON_RESUME"`
	Hold         time.Duration `help:"How long messages wait for a device that is offline. 0: no time." default:"20s" env:"BECKON_HOLD"`
	WakeURL      string        `name:"wake-url" help:"Webhook that is told that somebody waits for a device that is offline, so that a gateway can wake it." env:"BECKON_WAKE_URL" placeholder:"URL"`
	KeepAliveMin time.Duration `name:"keep-alive-min" help:"Shortest keep-alive of an MQTT client, in whole seconds; one that asks for less gets this." default:"10s" env:"BECKON_KEEP_ALIVE_MIN"`
	KeepAliveMax time.Duration `name:"keep-alive-max" help:"The longest. One that asks for none has 60 s." default:"10m" env:"BECKON_KEEP_ALIVE_MAX"`
	Drain        time.Duration `help:"How long stopping may take at most; with --dev a second." default:"25s" env:"BECKON_DRAIN"`

	WhipStrict bool `name:"whip-strict" help:"Refuse a PATCH of WHIP or WHEP without If-Match, as RFC 9725 asks; many players send none." env:"BECKON_WHIP_STRICT"`

	LogLevel  string `help:"One of ${enum}." enum:"debug,info,warn,error" default:"info" env:"BECKON_LOG_LEVEL"`
	LogFormat string `help:"One of ${enum}." enum:"text,json" default:"text" env:"BECKON_LOG_FORMAT"`

	LimitMessage                   size `help:"Longest message. 0: none, as of every limit." default:"64KiB" env:"BECKON_LIMIT_MESSAGE"`
	LimitQueue                     size `help:"What may wait to be written to a connection." default:"1MiB" env:"BECKON_LIMIT_QUEUE"`
	LimitQueues                    size `help:"What may wait to be written to all connections together; then no new ones are taken. Never more than a quarter of GOMEMLIMIT." default:"256MiB" env:"BECKON_LIMIT_QUEUES"`
	LimitUnauthenticated           int  `help:"Connections that are not authenticated yet, in all." default:"1000" env:"BECKON_LIMIT_UNAUTHENTICATED"`
	LimitUnauthenticatedPerAddress int  `help:"The same, of one address (IPv6: a /64); loopback has no such limit." default:"20" env:"BECKON_LIMIT_UNAUTHENTICATED_PER_ADDRESS"`
	LimitConnects                  int  `help:"New connections a second, in all; those of ten seconds may come at once." env:"BECKON_LIMIT_CONNECTS" default:"1000"`
	LimitConnectsPerAddress        int  `help:"The same, from one address (IPv6: a /64); loopback has no such limit." env:"BECKON_LIMIT_CONNECTS_PER_ADDRESS" default:"100"`
	LimitConnectsPerIdentity       int  `help:"The same, of one identity; one over it is banned for ten seconds." env:"BECKON_LIMIT_CONNECTS_PER_IDENTITY" default:"5"`
	LimitLogins                    int  `help:"Failed logins a minute, of an address and of a name." default:"10" env:"BECKON_LIMIT_LOGINS"`
	LimitRate                      int  `help:"Messages of a connection, a second. Who is over it is slowed down, told, and cut off in the end. Ten times as many packets or frames of any kind." default:"50" env:"BECKON_LIMIT_RATE"`
	LimitBurst                     int  `help:"Messages of a connection at once." default:"200" env:"BECKON_LIMIT_BURST"`
	LimitBytes                     size `help:"What is read from a connection a second, and four times as much at once; the rest waits." default:"1MiB" env:"BECKON_LIMIT_BYTES"`
	LimitJoins                     int  `help:"Joins of a connection a second, and sessions of WHIP and WHEP that an account opens a second." default:"10" env:"BECKON_LIMIT_JOINS"`
	LimitHeld                      int  `help:"Messages that wait for a peer that is expected, or asleep." default:"64" env:"BECKON_LIMIT_HELD"`
	LimitSessions                  int  `help:"Sessions open per peer." default:"64" env:"BECKON_LIMIT_SESSIONS"`
	LimitPeers                     int  `help:"Peers of a room." default:"1000" env:"BECKON_LIMIT_PEERS"`
	LimitRooms                     int  `help:"Rooms of a connection." default:"32" env:"BECKON_LIMIT_ROOMS"`

	file *file // of --config; nil without
}

// check fills in what depends on other settings and reports every mistake.
func (s *serve) check() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	if s.WakeURL != "" {
		if err := checkWakeURL(s.WakeURL); err != nil {
			wrong = append(wrong, err)
		}
	}
	if s.file != nil {
		wrong = append(wrong, s.file.wrong...)
	}
	if len(s.Listen) == 0 {
		s.Listen = []string{":1883", ":8080"}
		if s.Dev {
			s.Listen = []string{"127.0.0.1:1883", "127.0.0.1:8080"}
		}
	}
	for i, addr := range s.Listen {
		host, port, err := net.SplitHostPort(addr)
		n, portErr := strconv.ParseUint(port, 10, 16)
		switch {
		case err != nil || portErr != nil:
			add("--listen %q is not an address: it takes host:port, such as 127.0.0.1:1883, [::1]:1883 or :1883 for every address", addr)
		case n != 0 && slices.Contains(s.Listen[:i], addr):
			add("--listen %s is given twice", addr)
		case s.Dev && !loopback(host):
			add("--listen %s with --dev: everyone could come in there without credentials; take 127.0.0.1:%s, or leave --dev out", addr, port)
		}
	}
	wrong = append(wrong, s.checkAccounts(), s.tlsSettings.check(s.Dev), s.iceSettings.check())
	if _, err := s.trustedProxies(); err != nil {
		wrong = append(wrong, err)
	}
	if err := topics.Root(s.Root).Check(); err != nil {
		add("--root: %s", topics.AsError(err).Message)
	}
	if err := s.origins().Validate(); err != nil {
		add("--origin: %w", err)
	}
	for _, setting := range []struct {
		name string
		n    int64
	}{
		{"grace", int64(s.Grace)},
		{"drain", int64(s.Drain)},
		{"resume", int64(s.Resume)},
		{"keep-alive-min", int64(s.KeepAliveMin)},
		{"keep-alive-max", int64(s.KeepAliveMax)},
		{"limit-unauthenticated", int64(s.LimitUnauthenticated)},
		{"limit-unauthenticated-per-address", int64(s.LimitUnauthenticatedPerAddress)},
		{"limit-connects", int64(s.LimitConnects)},
		{"limit-connects-per-address", int64(s.LimitConnectsPerAddress)},
		{"limit-connects-per-identity", int64(s.LimitConnectsPerIdentity)},
		{"limit-logins", int64(s.LimitLogins)},
		{"limit-rate", int64(s.LimitRate)},
		{"limit-burst", int64(s.LimitBurst)},
		{"limit-joins", int64(s.LimitJoins)},
		{"hold", int64(s.Hold)},
		{"limit-held", int64(s.LimitHeld)},
		{"limit-sessions", int64(s.LimitSessions)},
		{"limit-peers", int64(s.LimitPeers)},
		{"limit-rooms", int64(s.LimitRooms)},
	} {
		if setting.n < 0 {
			add("--%s is negative", setting.name)
		}
	}
	if s.KeepAliveMin%time.Second != 0 || s.KeepAliveMax%time.Second != 0 {
		add("--keep-alive-min %v or --keep-alive-max %v is no whole number of seconds, which is how MQTT says it", s.KeepAliveMin, s.KeepAliveMax)
	}
	if longest := cmp.Or(s.KeepAliveMax, mqttKeepAlive); s.KeepAliveMin > longest || longest > mqttKeepAlive {
		add("--keep-alive-min %v and --keep-alive-max %v: the first may not be more than the other, nor that more than %v, the longest that MQTT has", s.KeepAliveMin, s.KeepAliveMax, mqttKeepAlive)
	}
	if s.LimitMessage != 0 && s.LimitQueue != 0 && s.LimitQueue < s.LimitMessage+headRoom {
		add("--limit-queue %v is less than --limit-message %v and %v for what goes before it: the longest message would never fit", s.LimitQueue, s.LimitMessage, headRoom)
	}
	return errors.Join(wrong...)
}

// mqttKeepAlive is the longest keep-alive that MQTT has.
const mqttKeepAlive = math.MaxUint16 * time.Second

// headRoom is what goes before a message on its way: its topic and properties, or
// the routing members of a frame.
const headRoom size = 4 << 10

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// trustedProxies are the networks of --trusted-proxy.
func (s *serve) trustedProxies() (networks []netip.Prefix, err error) {
	for _, text := range s.TrustedProxy {
		network, bad := netip.ParsePrefix(text)
		if one, notOne := netip.ParseAddr(text); notOne == nil && one.Zone() == "" {
			one = one.Unmap()
			network, bad = one.Prefix(one.BitLen())
		}
		switch {
		case bad != nil || network.Addr().Is4In6():
			err = errors.Join(err, fmt.Errorf("--trusted-proxy %q is not a network: it takes an address, or one like 10.0.0.0/8 or fd00::/8", text))
		case network.Bits() == 0:
			err = errors.Join(err, fmt.Errorf("--trusted-proxy %s is everybody: each client could say that it is another; name the proxies", text))
		}
		networks = append(networks, network)
	}
	return networks, err
}

func (s *serve) origins() bridge.Origins { return bridge.Origins{Allowed: s.Origin, Dev: s.Dev} }

func (s *serve) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // kong has checked it
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// limit turns a setting, where 0 is "none", into a number of a Config, where 0
// is the default.
func limit[N ~int | ~int64](n N) int {
	if n == 0 {
		return math.MaxInt32
	}
	return int(n)
}

// budget is the same for a number a second, where a negative one is none.
func budget(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// period is the same for a time.
func period(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// size is a number of bytes, spelled 65536, 64KiB, 1MiB or 1GiB.
type size int64

var units = []struct {
	name  string
	bytes size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText reads a size.
func (s *size) UnmarshalText(text []byte) error {
	number, unit := strings.TrimSpace(string(text)), size(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimRight(n, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || size(n) > math.MaxInt32/unit {
		return fmt.Errorf("%q is not a size: it takes bytes, or KiB, MiB or GiB, such as 64KiB, less than 2GiB", text)
	}
	*s = size(n) * unit
	return nil
}

func (s size) String() string {
	for _, u := range units {
		if s != 0 && s%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// resumeWithin is how long a client has that says that it resumes: no less than others.
func (s *serve) resumeWithin() time.Duration { return period(max(s.Resume, s.Grace)) }
