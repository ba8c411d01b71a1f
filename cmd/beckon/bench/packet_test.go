package bench

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPacketsAreThoseOfTheStandard(t *testing.T) {
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"CONNECT", connect{ClientID: "me", KeepAlive: 60}.append(nil), "\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02me"},
		{"CONNECT with a password", connect{ClientID: "me", Username: "u", Password: "hunter2"}.append(nil), "\x10\x1a\x00\x04MQTT\x04\xc2\x00\x00\x00\x02me\x00\x01u\x00\x07hunter2"},
		{"CONNECT with a name only", connect{ClientID: "me", Username: "u"}.append(nil), "\x10\x11\x00\x04MQTT\x04\x82\x00\x00\x00\x02me\x00\x01u"},
		{"SUBSCRIBE", appendSubscribe(nil, 7, 1, "a/+", "b"), "\x82\x0c\x00\x07\x00\x03a/+\x01\x00\x01b\x01"},
		{"PUBLISH, QoS 0", append(appendPublish(nil, "a/b", 0, 9, 2), "hi"...), "\x30\x07\x00\x03a/bhi"},
		{"PUBLISH, QoS 1", append(appendPublish(nil, "a/b", 1, 258, 2), "hi"...), "\x32\x09\x00\x03a/b\x01\x02hi"},
		{"PUBLISH of 200 bytes", appendPublish(nil, "a", 0, 0, 200), "\x30\xcb\x01\x00\x01a"},
		{"PUBACK", appendPuback(nil, 258), "\x40\x02\x01\x02"},
		{"PINGREQ", pingreq, "\xc0\x00"},
		{"the longest length", appendLength(nil, 268435455), "\xff\xff\xff\x7f"},
	} {
		if string(test.got) != test.want {
			t.Errorf("%s is % x, want % x", test.name, test.got, test.want)
		}
	}
}

func reader(stream string) *packetReader {
	return &packetReader{in: bufio.NewReaderSize(strings.NewReader(stream), 16)}
}

func TestReaderReadsWhatAServerSends(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	r := reader("\x20\x02\x00\x05" + "\x90\x04\x00\x07\x01\x80" + "\x30\x07\x00\x03a/bhi" + "\x3b\x09\x00\x03a/b\x01\x02hi" +
		"\x40\x02\x01\x02" + "\xd0\x00" + string(appendPublish(nil, "a", 0, 0, len(long))) + long)
	for i, want := range []packet{
		{kind: connackPacket, codes: []byte{5}},
		{kind: subackPacket, id: 7, codes: []byte{1, 0x80}},
		{kind: publishPacket, topic: []byte("a/b"), payload: []byte("hi")},
		{kind: publishPacket, qos: 1, id: 258, topic: []byte("a/b"), payload: []byte("hi")},
		{kind: pubackPacket, id: 258},
		{kind: pingrespPacket},
		{kind: publishPacket, topic: []byte("a"), payload: []byte(long)},
	} {
		got, err := r.next()
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if got.kind != want.kind || got.qos != want.qos || got.id != want.id || !bytes.Equal(got.topic, want.topic) ||
			!bytes.Equal(got.payload, want.payload) || !bytes.Equal(got.codes, want.codes) {
			t.Errorf("packet %d is %+v, want %+v", i, got, want)
		}
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last packet comes %v", err)
	}
}

func TestReaderRefusesWhatIsNoPacket(t *testing.T) {
	for name, stream := range map[string]string{
		"cut in the length":         "\x30",
		"cut in the body":           "\x30\x07\x00\x03a",
		"five bytes of length":      "\x30\xff\xff\xff\xff\x01",
		"far too long":              "\x30\xff\xff\xff\x7f",
		"a topic beyond the packet": "\x30\x03\x00\x09a",
		"no packet id":              "\x32\x03\x00\x01a",
		"a short CONNACK":           "\x20\x01\x00",
		"a CONNECT from a server":   "\x10\x00",
	} {
		if _, err := reader(stream).next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestReaderTakesNoMemoryForWhatIsOnlyAnnounced(t *testing.T) {
	r := reader("\x30\x80\x80\x40" + "few")
	if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the error is %v", err)
	}
	if cap(r.buf) > 64<<10 {
		t.Errorf("it took %d bytes for 1 MiB that did not come", cap(r.buf))
	}
}

func FuzzReader(f *testing.F) {
	for _, seed := range []string{"\x20\x02\x00\x00", "\x32\x09\x00\x03a/b\x01\x02hi", "\x90\x03\x00\x01\x80", "\xd0\x00\x40\x02\x00\x01", "\x30\xff\xff\xff\x7f"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := &packetReader{in: bufio.NewReaderSize(bytes.NewReader(stream), 16)}
		for {
			p, err := r.next()
			if err != nil {
				return
			}
			if p.kind != publishPacket || p.qos > 1 {
				continue
			}
			again := append(appendPublish(nil, string(p.topic), p.qos, p.id, len(p.payload)), p.payload...)
			q, err := (&packetReader{in: bufio.NewReader(bytes.NewReader(again))}).next()
			if err != nil || !bytes.Equal(q.topic, p.topic) || !bytes.Equal(q.payload, p.payload) || q.id != p.id {
				t.Fatalf("%+v written and read is %+v, %v", p, q, err)
			}
		}
	})
}
