package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/beckon-rtc/beckon/topics"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// newEngine makes the mochi server that speaks MQTT with clients. It is neither
// served nor closed, since that only starts and ends what is not used of it (its
// listeners, $SYS topics and expiry), and knows no client, whose owner hands it
// one packet after the other.
func newEngine(b *Broker) (*mqtt.Server, error) {
	can := mqtt.NewDefaultServerCapabilities()
	can.MaximumClientWritesPending = 1 // unused; by default it is 64 KiB for each client
	can.TopicAliasMaximum = 0          // the ACL is asked before an alias is resolved
	can.MaximumSessionExpiryInterval = 0
	can.Compatibilities.NoInheritedPropertiesOnAck = true
	server := mqtt.New(&mqtt.Options{
		Capabilities:            can,
		ClientNetReadBufferSize: 16,                            // of a packet that is there; the least there can be
		Logger:                  slog.New(slog.DiscardHandler), // it prints whole packets, passwords among them
	})
	// Exactly one hook: of several, each could only widen what another allows.
	return server, server.AddHook(&hook{broker: b}, nil)
}

// hook is what mochi asks and tells. A client is found by its connection.
type hook struct {
	mqtt.HookBase
	broker *Broker
}

func (h *hook) ID() string { return "beckon" }

func (h *hook) Provides(event byte) bool {
	switch event {
	case mqtt.OnAuthPacket, mqtt.OnACLCheck, mqtt.OnPacketEncode, mqtt.OnPacketProcessed,
		mqtt.OnSubscribe, mqtt.OnUnsubscribe, mqtt.OnPublish, mqtt.OnPublished:
		return true
	}
	return false
}

// admit decides about a CONNECT. Who is refused by its credentials is nothing to log
// here: anybody may be, as often as they like.
func (c *client) admit(mochi *mqtt.Client, pk packets.Packet) (err error) {
	if pk.Properties.AuthenticationMethod != "" {
		return errAuthMethod
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.broker.Handshake)
	defer cancel()
	id, err := c.broker.Authenticate(ctx, topics.Credentials{
		Username: string(pk.Connect.Username),
		Password: string(pk.Connect.Password),
		Name:     pk.Connect.ClientIdentifier,
		Remote:   addrOf(c.RemoteAddr()),
		TLS:      c.certificates(),
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.broker.Logger.Warn("refused", "peer", id.Name, "via", viaMQTT, "remote", c.RemoteAddr().String(), "code", int(topics.AsError(err).Code), "why", err.Error())
		}
	}()
	if err := topics.CheckName("peer", id.Name); err != nil {
		return err
	}
	var will *message
	if pk.Connect.WillFlag {
		if will, err = c.broker.willOf(id, pk); err != nil {
			return err
		}
	}
	if c.session, err = c.broker.newSession(id, viaMQTT, c, will); err != nil {
		return err
	}
	c.broker.outside.keepWill(c.session)
	// mochi would publish the will itself, unchecked, and keep the session.
	mochi.Properties.Will = mqtt.Will{}
	mochi.ID = id.Name + " " + c.session.name
	mochi.Properties.Clean = true
	mochi.Properties.Props.SessionExpiryInterval = 0
	mochi.Properties.Props.TopicAliasMaximum = 0
	mochi.State.Keepalive = c.broker.keepAlive(pk.Connect.Keepalive)
	mochi.State.ServerKeepalive = mochi.State.Keepalive != pk.Connect.Keepalive
	c.askedExpiry = pk.Properties.SessionExpiryInterval != 0
	if n := int(pk.Properties.ReceiveMaximum); n > 0 {
		c.window = min(n, c.window)
	}
	c.aliases.most = min(pk.Properties.TopicAliasMaximum, mostAliases)
	c.stayAlive(mochi.State.Keepalive)
	c.Admit()
	c.broker.Logger.Debug("connected", "conn", c.session.name, "peer", id.Name, "via", viaMQTT, "remote", c.RemoteAddr().String(), "version", c.Version())
	return nil
}

// keepAlive is what a client has that asks for so many seconds. One that asks for
// none gets a minute, since a connection that nobody hears of would stay a peer for
// ever.
func (b *Broker) keepAlive(asked uint16) uint16 {
	if asked == 0 {
		asked = 60
	}
	return min(max(asked, uint16(b.MinKeepAlive/time.Second)), uint16(b.MaxKeepAlive/time.Second))
}

// willOf checks a last will like the publish that it will be.
func (b *Broker) willOf(id topics.Identity, pk packets.Packet) (*message, error) {
	topic, payload := pk.Connect.WillTopic, pk.Connect.WillPayload
	if bytes.Equal(payload, emptyWill) {
		payload = nil
	}
	a, err := b.Root.Parse(topic)
	isOutside := errors.Is(err, topics.ErrOutside)
	switch {
	case isOutside && !id.MayPublishOutside(topic):
		return nil, topics.Errorf(topics.Forbidden, "%s may not have its last will at %q, outside the rooms", id.Name, topic)
	case err != nil && !isOutside:
		return nil, err
	case err == nil && !id.MayPublish(a):
		return nil, topics.Errorf(topics.Forbidden, "%s may not have its last will at %q: it may not publish there", id.Name, topic)
	}
	m := &message{
		Delivery:   topics.Delivery{Address: a, Payload: payload},
		topic:      topic,
		qos:        pk.Connect.WillQos,
		properties: travelling(pk.Connect.WillProperties),
	}
	switch {
	case len(payload) > b.MaxMessage:
		return nil, topics.Errorf(topics.TooLarge, "the last will has %d bytes, the limit is %d", len(payload), b.MaxMessage)
	case isOutside:
		m.retained, err = pk.Connect.WillRetain, nil
	case a.Kind == topics.Presence:
		_, err = topics.CheckPresence(payload)
	case pk.Connect.WillRetain:
		err = topics.Errorf(topics.BadRequest, "a last will is retained at peers/ only, not at %q", topic)
	default:
		m.Message, err = topics.CheckMessage(payload, a)
	}
	return m, err
}

// OnAuthPacket refuses enhanced authentication (MQTT 5, 4.12): there is none.
func (h *hook) OnAuthPacket(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	return pk, packets.ErrBadAuthenticationMethod
}

// OnACLCheck lets every publish pass, since OnPublish decides: a denial here
// would disconnect a 3.1.1 client. It denies every subscription, after
// OnSubscribe made it in the room, so that mochi keeps none; OnPacketEncode
// writes into the SUBACK what became of it.
func (h *hook) OnACLCheck(_ *mqtt.Client, _ string, write bool) bool { return write }

// hidden goes before a topic that mochi is not to see; OnPublish takes it
// away again.
const hidden = "?"

// emptyWill stands for an empty last will. It is no message, so nobody else's is
// mistaken for it.
var emptyWill = []byte{0}

// OnPublish hands a publish of QoS 2 to the room. mochi acknowledges it, and is
// told not to deliver it.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := cl.Net.Conn.(*client)
	topic := pk.TopicName
	if strings.HasPrefix(topic, hidden+"$") {
		topic = topic[len(hidden):]
	}
	c.refused = c.publish(&message{
		Delivery:   topics.Delivery{Payload: pk.Payload},
		topic:      topic,
		qos:        pk.FixedHeader.Qos,
		retained:   pk.FixedHeader.Retain,
		properties: travelling(pk.Properties),
	})
	return pk, packets.CodeSuccessIgnore
}

// OnPublished ends the QoS 2 exchange of a publish that was refused: its client
// sends no PUBREL then (MQTT 5, 4.3.3), for which mochi would wait.
func (h *hook) OnPublished(cl *mqtt.Client, pk packets.Packet) {
	c := cl.Net.Conn.(*client)
	if c.refused != nil && c.Version() >= 5 && c.refused.Code.MQTT() >= packets.ErrUnspecifiedError.Code {
		cl.State.Inflight.Delete(pk.PacketID)
		cl.State.Inflight.IncreaseReceiveQuota()
	}
	c.refused = nil
}

// Write writes a packet, and completes a PUBREC: mochi leaves out a reason code below
// 0x80 unless properties follow it, for which the client may have no room or use.
func (c *client) Write(p []byte) (int, error) {
	if len(p) == 4 && p[0] == packets.Pubrec<<4 && c.Version() >= 5 && c.refused != nil { // a PUBREC answers what is being read
		if _, err := c.Conn.Write([]byte{p[0], 3, p[2], p[3], c.refused.Code.MQTT()}); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// OnSubscribe makes the subscriptions. What they deliver at once waits until
// the SUBACK has been written.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	cl.Net.Conn.(*client).subscribe(pk)
	return pk
}

// OnUnsubscribe removes them.
func (h *hook) OnUnsubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := cl.Net.Conn.(*client)
	c.acks = c.acks[:0]
	for _, f := range pk.Filters {
		ack := packets.CodeNoSubscriptionExisted.Code
		if c.remove(f.Filter) {
			ack = packets.CodeSuccess.Code
		}
		c.acks = append(c.acks, ack)
	}
	return pk
}

// OnPacketProcessed is called when the answer to a packet has been written.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type == packets.Subscribe {
		cl.Net.Conn.(*client).uncork()
	}
}

// OnPacketEncode puts into the answers what mochi does not know.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := cl.Net.Conn.(*client)
	switch pk.FixedHeader.Type {
	case packets.Connack:
		if c.Version() < 5 {
			pk.ReasonCode = connack3(pk.ReasonCode)
		}
		pk.Properties.MaximumPacketSize = uint32(h.broker.limits.Packet)
		if c.askedExpiry { // MQTT 5, 3.2.2.3.2: the session ends with the connection
			pk.Properties.SessionExpiryIntervalFlag = true
		}
	case packets.Pubrec:
		if c.refused != nil {
			pk.ReasonCode = c.refused.Code.MQTT()
			pk.Properties.ReasonString = c.refused.Message
		}
	case packets.Suback:
		pk.ReasonCodes = append([]byte(nil), c.acks...)
		pk.Properties = packets.Properties{ReasonString: c.refusal}
	case packets.Unsuback:
		pk.ReasonCodes = append([]byte(nil), c.acks...)
		pk.Properties = packets.Properties{}
	}
	return pk
}

// errAuthMethod refuses a CONNECT with an authentication method.
var errAuthMethod = topics.Errorf(topics.Unauthorized, "there is no enhanced authentication: leave the authentication method out")

// connackCode is the reason code of a CONNACK that refuses (MQTT 5, 3.2.2.2).
func connackCode(err error) packets.Code {
	if err == error(errAuthMethod) {
		return packets.ErrBadAuthenticationMethod
	}
	switch topics.AsError(err).Code {
	case topics.BadRequest:
		return packets.ErrClientIdentifierNotValid
	case topics.Unauthorized:
		return packets.ErrBadUsernameOrPassword
	case topics.Forbidden:
		return packets.ErrNotAuthorized
	case topics.TooLarge:
		return packets.ErrPacketTooLarge
	case topics.RateLimited:
		return packets.ErrConnectionRateExceeded
	default:
		return packets.ErrServerUnavailable
	}
}

// connack3 translates it into a return code of MQTT 3.1.1 (3.2.2.3). mochi does
// so for a few of them only, and sends the others as they are.
func connack3(code byte) byte {
	switch {
	case code < packets.ErrUnspecifiedError.Code:
		return code
	case code == packets.ErrUnsupportedProtocolVersion.Code:
		return packets.Err3UnsupportedProtocolVersion.Code
	case code == packets.ErrBadUsernameOrPassword.Code:
		return packets.ErrMalformedUsernameOrPassword.Code
	case code == packets.ErrNotAuthorized.Code:
		return packets.Err3NotAuthorized.Code
	case code == packets.ErrServerUnavailable.Code, code == packets.ErrServerBusy.Code, code == packets.ErrConnectionRateExceeded.Code:
		return packets.Err3ServerUnavailable.Code
	default:
		return packets.Err3ClientIdentifierNotValid.Code
	}
}

func addrOf(a net.Addr) netip.Addr {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return ap.Addr().Unmap()
	}
	return netip.Addr{}
}
