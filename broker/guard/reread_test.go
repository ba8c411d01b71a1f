package guard

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strings"
	"testing"
)

// reread is a second, slow and plain reading of a packet that has passed: it
// takes the body apart field by field and writes the fields down again.
func reread(t *testing.T, version byte, packet []byte) (body []byte, filters []string) {
	head := 2
	for packet[head-1] >= 0x80 {
		head++
	}
	r := &rereader{t: t, in: bytes.NewBuffer(bytes.Clone(packet[head:]))}
	r5 := version == 5
	switch packet[0] >> 4 {
	case connect:
		r.text(2)
		if level := r.fixed(1)[0]; level != version {
			t.Errorf("level %d, version %d", level, version)
		}
		flags := r.fixed(1)[0]
		r.fixed(2)
		r.properties(r5)
		r.text(2)
		if flags&4 != 0 {
			r.properties(r5)
			r.text(2)
			r.bytes(2)
		}
		if flags&0x80 != 0 {
			r.text(2)
		}
		if flags&0x40 != 0 {
			r.bytes(2)
		}
	case publish:
		if strings.ContainsAny(r.text(2), "#+\x00") {
			t.Error("wildcard")
		}
		if packet[0]&6 != 0 {
			r.fixed(2)
		}
		r.properties(r5)
		r.fixed(r.in.Len())
	case subscribe, unsubscribe:
		r.fixed(2)
		r.properties(r5)
		for ok := true; ok; ok = r.in.Len() > 0 {
			filters = append(filters, r.text(2))
			if packet[0]>>4 == subscribe {
				r.fixed(1)
			}
		}
	case pingreq:
	case disconnect, auth:
		if r.in.Len() > 0 {
			r.fixed(1)
		}
		r.properties(r.in.Len() > 0)
	default:
		r.fixed(2)
		if r.in.Len() > 0 {
			r.fixed(1)
		}
		r.properties(r.in.Len() > 0)
	}
	if r.in.Len() > 0 {
		t.Errorf("%d bytes left", r.in.Len())
	}
	return r.out.Bytes(), filters
}

type rereader struct {
	t   *testing.T
	in  *bytes.Buffer
	out bytes.Buffer
}

func (r *rereader) fixed(n int) []byte {
	b := bytes.Clone(r.in.Next(n))
	if len(b) != n {
		r.t.Fatalf("cut off: %d of %d", len(b), n)
	}
	r.out.Write(b)
	return b
}

func (r *rereader) bytes(int) []byte { return r.fixed(int(binary.BigEndian.Uint16(r.fixed(2)))) }

func (r *rereader) text(n int) string {
	s := string(r.bytes(n))
	if strings.ToValidUTF8(s, "!") != s || strings.Contains(s, "\x00") {
		r.t.Errorf("%q is not text", s)
	}
	return s
}

func (r *rereader) varint() int {
	v, err := binary.ReadUvarint(r.in)
	if err != nil {
		r.t.Fatal(err)
	}
	r.out.Write(binary.AppendUvarint(nil, v))
	return int(v)
}

var kinds = map[int]string{
	1: "1", 2: "4", 3: "s", 8: "s", 9: "b", 0x0B: "v", 0x11: "4", 0x15: "s", 0x16: "b", 0x17: "1", 0x18: "4",
	0x19: "1", 0x1F: "s", 0x21: "2", 0x22: "2", 0x26: "ss", 0x27: "4",
}

func (r *rereader) properties(present bool) {
	if !present {
		return
	}
	n := r.varint()
	stop, seen := r.in.Len()-n, map[int]int{}
	for r.in.Len() > stop {
		id := r.varint()
		if seen[id]++; seen[id] > 1 && id != 0x26 || seen[id] > 8 || kinds[id] == "" {
			r.t.Errorf("property %d for the %dth time", id, seen[id])
		}
		for _, kind := range kinds[id] {
			switch kind {
			case 's':
				r.text(2)
			case 'b':
				r.bytes(2)
			case 'v':
				r.varint()
			default:
				r.fixed(int(kind - '0'))
			}
		}
	}
	if r.in.Len() != stop {
		r.t.Error("properties end elsewhere")
	}
}

// The grammar of filters as one expression, section 4.7 and 4.8.
var grammar = regexp.MustCompile(`(?s)^(#|(\+|[^+#/]*)(/(\+|[^+#/]*))*(/#)?)$`)

func plausible(filter string) bool {
	if len(filter) >= 6 && strings.EqualFold(filter[:6], "$share") && (len(filter) == 6 || filter[6] == '/') {
		parts := strings.SplitN(filter, "/", 3)
		if len(parts) < 3 || parts[1] == "" || strings.ContainsAny(parts[1], "+#") {
			return false
		}
		filter = parts[2]
	}
	return filter != "" && grammar.MatchString(filter)
}
