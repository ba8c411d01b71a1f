package guard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/beckon-rtc/beckon/topics/threat"
)

const (
	c4 = `10 .. "MQTT" 04 `
	c5 = `10 .. "MQTT" 05 `
)

var long = strings.Repeat("a", 257)

var packets = []struct {
	version byte
	name    string
	packet  string
	reason  byte
}{
	// CONNECT
	{0, "3.1.1", c4 + `02 003C "cam"`, 0},
	{0, "3.1", `10 .. "MQIsdp" 03 02 003C "cam"`, 0},
	{0, "5", c5 + `02 003C [] "cam"`, 0},
	{0, "3.1.1 without id", c4 + `02 003C ""`, 0},
	{0, "3.1.1 without id, not clean: the broker answers", c4 + `00 003C ""`, 0},
	{0, "user and password", c4 + `C2 003C "cam" "u" "p"`, 0},
	{0, "user alone", c4 + `82 003C "cam" "u"`, 0},
	{0, "password of any bytes", c4 + `C2 003C "cam" "u" 0002 00FF`, 0},
	{0, "password alone, 5", c5 + `42 003C [] "cam" "p"`, 0},
	{0, "password alone, 3.1.1", c4 + `42 003C "cam" "p"`, malformed},
	{0, "will", c4 + `0E 003C "cam" "w" "bye"`, 0},
	{0, "will, QoS 2, retained", c4 + `36 003C "cam" "w" ""`, 0},
	{0, "will with properties", c5 + `06 003C [] "cam" [18 00000005 01 01 02 00000001 03 "t" 08 "r" 09 "c" 26 "k" "v"] "w" "bye"`, 0},
	{0, "will QoS 3", c4 + `1E 003C "cam" "w" "bye"`, malformed},
	{0, "will QoS without will", c4 + `0A 003C "cam"`, malformed},
	{0, "will retain without will", c4 + `22 003C "cam"`, malformed},
	{0, "will to nowhere", c4 + `06 003C "cam" "" "bye"`, badTopic},
	{0, "will to a wildcard", c4 + `06 003C "cam" "a/#" "bye"`, badTopic},
	{0, "will too deep", c4 + `06 003C "cam" "1/2/3/4/5/6/7/8/9" "bye"`, badTopic},
	{0, "will missing", c4 + `06 003C "cam"`, malformed},
	{0, "will property of PUBLISH", c5 + `06 003C [] "cam" [23 0001] "w" "bye"`, malformed},
	{0, "will property of CONNECT", c5 + `06 003C [] "cam" [11 00000001] "w" "bye"`, malformed},
	{0, "reserved flag", c4 + `03 003C "cam"`, malformed},
	{0, "level 6", `10 .. "MQTT" 06 02 003C 00 "cam"`, badVersion},
	{0, "level 3 of MQTT", `10 .. "MQTT" 03 02 003C "cam"`, badVersion},
	{0, "level 4 of MQIsdp", `10 .. "MQIsdp" 04 02 003C "cam"`, badVersion},
	{0, "level 0", `10 .. "MQTT" 00 02 003C "cam"`, badVersion},
	{0, "bridge of mosquitto", `10 .. "MQTT" 84 02 003C "cam"`, badVersion},
	{0, "another protocol", `10 .. "HTTP" 04 02 003C "cam"`, badVersion},
	{0, "flags in the header", `11 .. "MQTT" 04 02 003C "cam"`, malformed},
	{0, "empty", `10 00`, malformed},
	{0, "half a name", `10 .. 0004 4D51`, malformed},
	{0, "user missing", c4 + `82 003C "cam"`, malformed},
	{0, "password missing", c4 + `C2 003C "cam" "u"`, malformed},
	{0, "trailing byte", c4 + `02 003C "cam" 00`, malformed},
	{0, "id with U+0000", c4 + `02 003C 0003 610062`, malformed},
	{0, "id not UTF-8", c4 + `02 003C 0002 C328`, malformed},
	{0, "id with a surrogate", c4 + `02 003C 0003 EDA080`, malformed},
	{0, "user not UTF-8", c4 + `82 003C "cam" 0001 FF`, malformed},
	{0, "all properties", c5 + `02 003C [11 00000001 21 0001 27 00000100 22 0000 19 00 17 01 26 "k" "v" 26 "k" "v" 15 "m" 16 "d"] "cam"`, 0},
	{0, "properties missing", c5 + `02 003C`, malformed},
	{0, "properties longer than the packet", c5 + `02 003C 7F 11 00000001`, malformed},
	{0, "property cut off by its list", c5 + `02 003C 03 11 00000001 "cam"`, malformed},
	{0, "property twice", c5 + `02 003C [11 00000001 11 00000001] "cam"`, protocolError},
	{0, "property of PUBLISH", c5 + `02 003C [01 00] "cam"`, malformed},
	{0, "property unknown", c5 + `02 003C [7E 00] "cam"`, malformed},
	{0, "property 0", c5 + `02 003C [00 00] "cam"`, malformed},
	{0, "property identifier in two bytes", c5 + `02 003C [9100 00000001] "cam"`, malformed},
	{0, "receive maximum 0", c5 + `02 003C [21 0000] "cam"`, protocolError},
	{0, "packet size 0", c5 + `02 003C [27 00000000] "cam"`, protocolError},
	{0, "request problem information 2", c5 + `02 003C [17 02] "cam"`, protocolError},
	{0, "authentication data without method", c5 + `02 003C [16 "d"] "cam"`, protocolError},
	{0, "nine user properties", c5 + `02 003C [` + strings.Repeat(`26 "k" "v"`, 9) + `] "cam"`, quotaExceeded},
	{0, "nine user properties, five of the will", c5 + `06 003C [` + strings.Repeat(`26 "k" "v"`, 4) + `] "cam" [` +
		strings.Repeat(`26 "k" "v"`, 5) + `] "w" "bye"`, quotaExceeded},
	{0, "user properties too long", c5 + `02 003C [26 "k" "` + strings.Repeat("v", 1024) + `"] "cam"`, quotaExceeded},
	{0, "length not minimal, 3.1.1", `10 8F00 "MQTT" 04 02 003C "cam"`, 0},
	{0, "length not minimal, 5", `10 9000 "MQTT" 05 02 003C 00 "cam"`, malformed},
	{0, "length of five bytes", `10 FFFFFFFF01`, malformed},
	{0, "claims 256 MiB", `10 FFFFFF7F`, tooLarge},
	{0, "PINGREQ first", `C0 00`, protocolError},
	{0, "a web browser", `'GET / HTTP/1.1'`, protocolError},
	{4, "second CONNECT", c4 + `02 003C "cam"`, protocolError},

	// not for clients
	{4, "type 0", `00 00`, malformed},
	{4, "CONNACK", `20 02 0000`, protocolError},
	{4, "SUBACK", `90 03 0001 00`, protocolError},
	{4, "UNSUBACK", `B0 02 0001`, protocolError},
	{4, "PINGRESP", `D0 00`, protocolError},
	{4, "AUTH in 3.1.1", `F0 00`, malformed},

	// PUBLISH
	{4, "QoS 0", `30 .. "a/b" 'hello'`, 0},
	{4, "empty message", `30 .. "a/b"`, 0},
	{4, "QoS 1", `32 .. "a/b" 0001 'hello'`, 0},
	{4, "QoS 2, DUP, retain", `3D .. "a/b" 0001 'hello'`, 0},
	{4, "QoS 3", `36 .. "a/b" 0001`, malformed},
	{4, "DUP with QoS 0", `38 .. "a/b"`, malformed},
	{4, "id 0", `32 .. "a/b" 0000`, protocolError},
	{4, "id missing", `32 .. "a/b"`, malformed},
	{4, "id cut off", `32 .. "a/b" 00`, malformed},
	{4, "nothing", `30 00`, malformed},
	{4, "topic cut off", `30 .. 0005 'a/b'`, malformed},
	{4, "topic empty", `30 .. ""`, badTopic},
	{5, "topic empty", `30 .. "" []`, protocolError},
	{4, "topic with +", `30 .. "a/+"`, badTopic},
	{4, "topic with #", `30 .. "a#"`, badTopic},
	{4, "topic with U+0000", `30 .. 0003 610062`, malformed},
	{4, "topic not UTF-8", `30 .. 0002 C0AF`, malformed},
	{4, "8 levels", `30 .. "1/2/3/4/5/6/7/8"`, 0},
	{4, "9 levels", `30 .. "1/2/3/4/5/6/7/8/9"`, badTopic},
	{4, "256 bytes", `30 .. "` + long[1:] + `"`, 0},
	{4, "257 bytes", `30 .. "` + long + `"`, badTopic},
	{5, "all properties", `32 .. "a/b" 0001 [01 01 02 0000000A 08 "r" 09 "c" 26 "k" "v" 03 "t"] 'hello'`, 0},
	{5, "properties missing", `30 .. "a/b"`, malformed},
	{5, "alias", `30 .. "a/b" [23 0001]`, badAlias},
	{5, "alias alone", `30 .. "" [23 0001]`, badAlias},
	{5, "subscription identifier", `30 .. "a/b" [0B 01]`, protocolError},
	{5, "payload format 2", `30 .. "a/b" [01 02]`, protocolError},
	{5, "response topic with a wildcard", `30 .. "a/b" [08 "r/#"]`, badTopic},
	{5, "user property cut off", `30 .. "a/b" 03 26 0005`, malformed},
	{5, "user property not UTF-8", `30 .. "a/b" [26 0001 FF "v"]`, malformed},
	{5, "server's property", `30 .. "a/b" [12 "id"]`, malformed},
	{5, "nine user properties", `30 .. "a/b" [` + strings.Repeat(`26 "k" "v"`, 9) + `]`, quotaExceeded},
	{5, "length not minimal", `30 8600 "a/b" 00`, malformed},
	{4, "length not minimal", `30 8500 "a/b"`, 0},

	// PUBACK, PUBREC, PUBREL, PUBCOMP
	{4, "PUBACK", `40 02 0001`, 0},
	{4, "PUBREL", `62 02 0001`, 0},
	{4, "PUBACK with id 0", `40 02 0000`, protocolError},
	{4, "PUBACK with reason", `40 03 0001 00`, malformed},
	{4, "PUBACK too short", `40 01 00`, malformed},
	{4, "PUBACK flags", `42 02 0001`, malformed},
	{4, "PUBREL flags", `60 02 0001`, malformed},
	{5, "PUBACK", `40 02 0001`, 0},
	{5, "PUBACK with reason", `40 03 0001 10`, 0},
	{5, "PUBREC with all", `50 .. 0001 80 [1F "why" 26 "k" "v"]`, 0},
	{5, "PUBREL with reason", `62 04 0001 92 00`, 0},
	{5, "PUBCOMP with reason", `70 03 0001 92`, 0},
	{5, "PUBCOMP with reason of PUBACK", `70 03 0001 10`, protocolError},
	{5, "PUBACK with reason of SUBACK", `40 03 0001 01`, protocolError},
	{5, "PUBACK with foreign property", `40 .. 0001 00 [11 00000000]`, malformed},
	{5, "PUBACK with two reason strings", `40 .. 0001 00 [1F "a" 1F "b"]`, protocolError},
	{5, "PUBACK with trailing byte", `40 .. 0001 00 [] 00`, malformed},

	// SUBSCRIBE, UNSUBSCRIBE
	{4, "one filter", `82 .. 0001 "a/b" 00`, 0},
	{4, "three filters", `82 .. 0001 "#" 00 "+" 01 "a/+/c/#" 02`, 0},
	{4, "id 0", `82 .. 0000 "a/b" 00`, protocolError},
	{4, "flags 0", `80 .. 0001 "a/b" 00`, malformed},
	{4, "no filter", `82 .. 0001`, protocolError},
	{4, "no options", `82 .. 0001 "a/b"`, malformed},
	{4, "QoS 3", `82 .. 0001 "a/b" 03`, protocolError},
	{4, "no local in 3.1.1", `82 .. 0001 "a/b" 04`, malformed},
	{4, "# in the middle", `82 .. 0001 "a/#/b" 00`, badFilter},
	{4, "# behind a name", `82 .. 0001 "a#" 00`, badFilter},
	{4, "+ behind a name", `82 .. 0001 "a+/b" 00`, badFilter},
	{4, "+ before a name", `82 .. 0001 "a/+b" 00`, badFilter},
	{4, "++", `82 .. 0001 "++" 00`, badFilter},
	{4, "empty filter", `82 .. 0001 "" 00`, badFilter},
	{4, "filter of slashes", `82 .. 0001 "//" 00`, 0},
	{4, "9 levels", `82 .. 0001 "1/2/3/4/5/6/7/8/9" 00`, badFilter},
	{4, "257 bytes", `82 .. 0001 "` + long + `" 00`, badFilter},
	{4, "8 filters", `82 .. 0001` + strings.Repeat(` "a" 00`, 8), 0},
	{4, "9 filters", `82 .. 0001` + strings.Repeat(` "a" 00`, 9), quotaExceeded},
	{4, "shared without filter", `82 .. 0001 "$share/g" 00`, badFilter},
	{5, "what panics mochi", `82 06 00 01 00 00 01 61`, malformed},
	{5, "all options", `82 .. 0001 [0B 01 26 "k" "v"] "a/b" 2E`, 0},
	{5, "longest subscription identifier", `82 .. 0001 [0B FFFFFF7F] "a/b" 00`, 0},
	{5, "subscription identifier 0", `82 .. 0001 [0B 00] "a/b" 00`, protocolError},
	{5, "subscription identifier twice", `82 .. 0001 [0B 01 0B 02] "a/b" 00`, protocolError},
	{5, "subscription identifier of five bytes", `82 .. 0001 [0B FFFFFFFF01] "a/b" 00`, malformed},
	{5, "subscription identifier cut off", `82 .. 0001 [0B FF] "a/b" 00`, malformed},
	{5, "reserved options", `82 .. 0001 [] "a/b" 40`, malformed},
	{5, "QoS 3", `82 .. 0001 [] "a/b" 03`, protocolError},
	{5, "retain handling 3", `82 .. 0001 [] "a/b" 30`, protocolError},
	{5, "shared", `82 .. 0001 [] "$share/g/a/+/#" 01`, 0},
	{5, "shared, no local", `82 .. 0001 [] "$share/g/a" 05`, protocolError},
	{5, "shared without group", `82 .. 0001 [] "$share//a" 00`, badFilter},
	{5, "shared with a wild group", `82 .. 0001 [] "$share/g+/a" 00`, badFilter},
	{5, "shared in capitals", `82 .. 0001 [] "$SHARE/g" 00`, badFilter},
	{5, "shared with empty filter", `82 .. 0001 [] "$share/g/" 00`, badFilter},
	{5, "shared with bad filter", `82 .. 0001 [] "$share/g/#/a" 00`, badFilter},
	{4, "UNSUBSCRIBE", `A2 .. 0001 "a/b" "#"`, 0},
	{5, "UNSUBSCRIBE", `A2 .. 0001 [26 "k" "v"] "a/b"`, 0},
	{4, "UNSUBSCRIBE of nothing", `A2 .. 0001`, protocolError},
	{4, "UNSUBSCRIBE flags", `A0 .. 0001 "a/b"`, malformed},
	{5, "UNSUBSCRIBE with subscription identifier", `A2 .. 0001 [0B 01] "a/b"`, malformed},
	{4, "UNSUBSCRIBE of 9", `A2 .. 0001` + strings.Repeat(` "a"`, 9), quotaExceeded},
	{4, "UNSUBSCRIBE of a bad filter", `A2 .. 0001 "a/#/b"`, badFilter},

	// PINGREQ, DISCONNECT, AUTH
	{4, "PINGREQ", `C0 00`, 0},
	{4, "PINGREQ with body", `C0 01 00`, malformed},
	{4, "PINGREQ flags", `C1 00`, malformed},
	{4, "DISCONNECT", `E0 00`, 0},
	{4, "DISCONNECT with reason in 3.1.1", `E0 01 00`, malformed},
	{5, "DISCONNECT", `E0 00`, 0},
	{5, "DISCONNECT with will", `E0 01 04`, 0},
	{5, "DISCONNECT with all", `E0 .. 04 [11 00000000 1F "why" 26 "k" "v"]`, 0},
	{5, "DISCONNECT prolongs a session that CONNECT did not want", `E0 .. 00 [11 00000001]`, protocolError},
	{5, "DISCONNECT with a server's reason", `E0 01 8B`, protocolError},
	{5, "DISCONNECT with server reference", `E0 .. 00 [1C "s"]`, malformed},
	{5, "AUTH", `F0 .. 18 [15 "m" 16 "d"]`, 0},
	{5, "AUTH without method", `F0 .. 18 [16 "d"]`, protocolError},
	{5, "AUTH success from a client", `F0 00`, protocolError},
	{5, "AUTH with another reason", `F0 .. 00 [15 "m"]`, protocolError},
	{5, "AUTH without properties", `F0 01 18`, malformed},
}

func TestPacketsAreHeldToTheStandard(t *testing.T) {
	threat.Row(t, 13, 0)
	for _, p := range packets {
		t.Run(fmt.Sprintf("%d %s", p.version, p.name), func(t *testing.T) {
			if got := verdict(t, p.version, assemble(t, p.packet)); got != p.reason {
				t.Errorf("%s: reason 0x%02X, want 0x%02X", p.packet, got, p.reason)
			}
		})
	}
}

func TestGoodPacketCutShortIsWaitedForAndNeverPanics(t *testing.T) {
	for _, p := range packets {
		if p.reason != 0 {
			continue
		}
		b := assemble(t, p.packet)
		for n := range b {
			k := &checker{limits: Limits{}.withDefaults(), version: p.version, exchanges: true}
			head, size, bad := k.frame(b[:n], 1<<20)
			if size != 0 || bad != nil {
				t.Errorf("%s cut to %d bytes: frame of %d, %v", p.name, n, size, bad)
			}
			if head > 0 && n >= head {
				k.check(b[:n], head) // as if its length had said so
			}
		}
	}
}

func TestAuthWithoutMethodInConnectIsRefused(t *testing.T) {
	k := &checker{limits: Limits{}.withDefaults(), version: 5}
	if _, bad := k.check(assemble(t, `F0 .. 18 [15 "m"]`), 2); bad == nil || bad.Reason != protocolError {
		t.Errorf("got %v", bad)
	}
}

func TestNegativeLimitsAreNone(t *testing.T) {
	k := &checker{limits: Limits{Levels: -1, TopicBytes: -1, Filters: -1, UserProperties: -1, UserPropertyBytes: -1}.withDefaults(), version: 5}
	b := assemble(t, `82 .. 0001 [`+strings.Repeat(`26 "k" "v"`, 300)+`]`+strings.Repeat(` "`+strings.Repeat("a/", 300)+`" 00`, 9))
	head, size, bad := k.frame(b, largest)
	if bad != nil || size != len(b) {
		t.Fatal(size, bad)
	}
	if _, bad = k.check(b, head); bad != nil {
		t.Error(bad)
	}
}

func TestViolationNeverShowsPasswordOrPayload(t *testing.T) {
	threat.Row(t, 24, 0)
	for _, line := range []string{
		c4 + `C2 003C "cam" "u" "s3cret" 00`,
		c5 + `C6 003C [] "cam" [] "w/#" "s3cret" "u" "s3cret"`,
		`30 .. "a/#" 's3cret'`,
	} {
		k := &checker{limits: Limits{}.withDefaults()}
		if line[0] == '3' {
			k.version = 4
		}
		_, bad := k.check(assemble(t, line), 2)
		if bad == nil || strings.Contains(bad.Error(), "s3cret") {
			t.Errorf("%s: %v", line, bad)
		}
	}
}

func TestTextOfAViolationStaysShort(t *testing.T) {
	bad := violation(badTopic, "%s %s", excerpt([]byte(strings.Repeat("\x01", 300))), strings.Repeat("x", 300))
	if len(bad.Text) > longestText {
		t.Errorf("%d bytes", len(bad.Text))
	}
}

func BenchmarkCheckPublish2KiB(b *testing.B) {
	p := assemble(b, `32 .. "beckon/v1/garage/to/cam1/viewer7" 0001 [26 "k" "v"] '`+strings.Repeat("x", 2048)+`'`)
	s := stream{checker: checker{limits: Limits{}.withDefaults(), version: 5}}
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		s.space, s.from, s.to = p, 0, len(p)
		if packet, bad := s.next(1 << 20); len(packet) != len(p) || bad != nil {
			b.Fatal(packet, bad)
		}
	}
}
