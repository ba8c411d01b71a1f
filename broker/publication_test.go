package broker

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	"github.com/mochi-mqtt/server/v2/packets"
)

// What is written here, mochi reads, and the other way round.
func TestPublicationsReadAsTheyWereWritten(t *testing.T) {
	all := &packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, MessageExpiryInterval: 60, ContentType: "application/json",
		ResponseTopic: "rtc/v1/garage/to/cam1/alice", CorrelationData: []byte{0, 1, 2},
		User: []packets.UserProperty{{Key: "a", Val: "b"}, {Key: "a", Val: "c"}},
	}
	for name, out := range map[string]*outgoing{
		"plain":        {m: &message{topic: "rtc/v1/garage/all/alice", Delivery: topics.Delivery{Payload: []byte("hello")}}},
		"empty":        {m: &message{topic: "a"}},
		"QoS 1":        {m: &message{topic: "a/b", qos: 2, Delivery: topics.Delivery{Payload: []byte("hello")}}, how: reception{qos: 1}, id: 4711},
		"QoS 2, long":  {m: &message{topic: "a/b", qos: 2, Delivery: topics.Delivery{Payload: make([]byte, 20_000)}}, how: reception{qos: 2}, id: 1},
		"retained":     {m: &message{topic: "a/b", retained: true}, how: reception{retain: true}},
		"not any more": {m: &message{topic: "a/b", retained: true}},
		"identifiers":  {m: &message{topic: "a/b"}, how: reception{ids: []int{1, 300_000}}},
		"properties":   {m: &message{topic: "a/b", properties: all}, how: reception{ids: []int{7}}},
	} {
		out.m.arrive()
		for _, version := range []byte{4, 5} {
			b := append(appendPublish(nil, version, out), out.m.Payload...)
			if n := publishSize(version, out); n != len(b) {
				t.Errorf("%s: %d bytes, said to be %d", name, len(b), n)
			}
			pk := parsed(t, version, b)
			if pk.TopicName != out.m.topic || !bytes.Equal(pk.Payload, out.m.Payload) || pk.PacketID != out.id ||
				pk.FixedHeader.Qos != out.qos() || pk.FixedHeader.Retain != (out.m.retained && out.how.retain) {
				t.Errorf("%s: mochi reads %+v", name, pk)
			}
			if version == 5 {
				want := packets.Properties{SubscriptionIdentifier: out.how.ids}
				if out.m.properties != nil {
					want = *out.m.properties
					want.SubscriptionIdentifier = out.how.ids
				}
				if !reflect.DeepEqual(pk.Properties, want) {
					t.Errorf("%s: mochi reads the properties %+v, want %+v", name, pk.Properties, want)
				}
			}
			pub := parsePublish(b, version)
			if string(pub.topic) != out.m.topic || !bytes.Equal(pub.payload, out.m.Payload) || pub.id != out.id ||
				pub.qos != out.qos() || pub.retain != pk.FixedHeader.Retain {
				t.Errorf("%s: read as %+v", name, pub)
			}
			if version == 5 && !reflect.DeepEqual(pub.travelling(), out.m.properties) {
				t.Errorf("%s: read with %+v", name, pub.travelling())
			}
		}
	}
}

func TestExpiryIsWhatIsLeftOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &message{topic: "a", properties: &packets.Properties{MessageExpiryInterval: 60}}
		m.arrive()
		for _, c := range []struct {
			wait time.Duration
			left uint32
		}{{0, 60}, {20 * time.Second, 40}, {39*time.Second + 1, 1}} {
			time.Sleep(c.wait)
			if pk := parsed(t, 5, appendPublish(nil, 5, &outgoing{m: m})); pk.Properties.MessageExpiryInterval != c.left || m.expired() {
				t.Errorf("%d s left, want %d; expired %v", pk.Properties.MessageExpiryInterval, c.left, m.expired())
			}
		}
		time.Sleep(time.Second - 1)
		if !m.expired() {
			t.Error("after a minute it has not expired")
		}
	})
}

func TestVarintSizeIsThatOfTheVarint(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 1<<28 - 1} {
		if got, want := varintSize(n), len(binary.AppendUvarint(nil, uint64(n))); got != want {
			t.Errorf("%d takes %d bytes, not %d", n, want, got)
		}
	}
}
