package guard

// The identifiers of properties (MQTT 5, section 2.2.2.2).
const (
	payloadFormat     = 0x01
	messageExpiry     = 0x02
	contentType       = 0x03
	responseTopic     = 0x08
	correlationData   = 0x09
	subscriptionID    = 0x0B
	sessionExpiry     = 0x11
	authMethod        = 0x15
	authData          = 0x16
	requestProblem    = 0x17
	willDelay         = 0x18
	requestResponse   = 0x19
	reasonString      = 0x1F
	receiveMaximum    = 0x21
	topicAliasMaximum = 0x22
	topicAlias        = 0x23
	userProperty      = 0x26
	maximumPacketSize = 0x27

	lastProperty = 0x3F
)

// What a client may send with which packet, as sets of bits.
const (
	ofConnect uint64 = 1<<sessionExpiry | 1<<receiveMaximum | 1<<maximumPacketSize |
		1<<topicAliasMaximum | 1<<requestResponse | 1<<requestProblem |
		1<<userProperty | 1<<authMethod | 1<<authData // 3.1.2.11
	ofWill uint64 = 1<<willDelay | 1<<payloadFormat | 1<<messageExpiry | 1<<contentType |
		1<<responseTopic | 1<<correlationData | 1<<userProperty // 3.1.3.2
	ofPublish uint64 = 1<<payloadFormat | 1<<messageExpiry | 1<<topicAlias | 1<<responseTopic |
		1<<correlationData | 1<<userProperty | 1<<subscriptionID | 1<<contentType // 3.3.2.3
	ofAck         uint64 = 1<<reasonString | 1<<userProperty                               // 3.4.2.2, 3.5.2.2, 3.6.2.2, 3.7.2.2
	ofSubscribe   uint64 = 1<<subscriptionID | 1<<userProperty                             // 3.8.2.1
	ofUnsubscribe uint64 = 1 << userProperty                                               // 3.10.2.1
	ofDisconnect  uint64 = 1<<sessionExpiry | 1<<reasonString | 1<<userProperty            // 3.14.2.2, without the server's
	ofAuth        uint64 = 1<<authMethod | 1<<authData | 1<<reasonString | 1<<userProperty // 3.15.2.2
)

// properties is what the guard remembers of a list it has read.
type properties struct {
	seen    uint64 // set of identifiers
	expiry  uint32 // sessionExpiry
	maximum uint32 // maximumPacketSize
}

func (p properties) has(id byte) bool { return p.seen&(1<<id) != 0 }

// properties reads the list at the cursor. Only the set allowed may be in it,
// each at most once but for user properties.
func (k *checker) properties(c *cursor, allowed uint64) (p properties) {
	length := int(c.varint("property length"))
	if c.bad != nil {
		return p
	}
	if length > len(c.b) {
		c.fail(malformed, "property length %d, only %d bytes follow", length, len(c.b))
		return p
	}
	after := c.b[length:]
	c.b = c.b[:length]
	for len(c.b) > 0 {
		k.property(c, allowed, &p)
	}
	if c.bad == nil {
		c.b = after
	}
	return p
}

func (k *checker) property(c *cursor, allowed uint64, p *properties) {
	id := c.varint("property identifier")
	switch {
	case c.bad != nil:
		return
	case id > lastProperty || allowed&(1<<id) == 0: // 2.2.2.2
		c.fail(malformed, "property 0x%02X is not one of this packet's", id)
		return
	case id != userProperty && p.seen&(1<<id) != 0:
		c.fail(protocolError, "property 0x%02X comes twice", id)
		return
	}
	p.seen |= 1 << id

	switch id {
	case payloadFormat, requestProblem, requestResponse:
		if v := c.u8("property"); v > 1 {
			c.fail(protocolError, "property 0x%02X is %d, neither 0 nor 1", id, v)
		}
	case messageExpiry, willDelay:
		c.u32("property")
	case sessionExpiry:
		p.expiry = c.u32("session expiry interval")
	case maximumPacketSize:
		if p.maximum = c.u32("maximum packet size"); p.maximum == 0 && c.bad == nil { // 3.1.2.11.4
			c.fail(protocolError, "maximum packet size is 0")
		}
	case receiveMaximum:
		if v := c.u16("receive maximum"); v == 0 && c.bad == nil { // 3.1.2.11.3
			c.fail(protocolError, "receive maximum is 0")
		}
	case topicAliasMaximum:
		c.u16("topic alias maximum")
	case topicAlias: // we announce Topic Alias Maximum 0 [MQTT-3.3.2-9]
		c.fail(badAlias, "topic alias, the maximum is 0")
	case subscriptionID:
		if c.kind == publish { // [MQTT-3.3.4-6]
			c.fail(protocolError, "subscription identifier in a PUBLISH of a client")
		} else if v := c.varint("subscription identifier"); v == 0 && c.bad == nil { // 3.8.2.1.2
			c.fail(protocolError, "subscription identifier is 0")
		}
	case responseTopic:
		k.topic(c, "response topic", c.str("response topic")) // [MQTT-3.3.2-13] [MQTT-3.3.2-14]
	case contentType, authMethod, reasonString:
		c.str("property")
	case correlationData, authData:
		c.bin("property")
	case userProperty:
		k.userProperty(c)
	}
}

func (k *checker) userProperty(c *cursor) {
	c.userBytes += len(c.str("user property name"))
	c.userBytes += len(c.str("user property value"))
	c.users++
	if c.users > k.limits.UserProperties {
		c.fail(quotaExceeded, "more than %d user properties", k.limits.UserProperties)
	} else if c.userBytes > k.limits.UserPropertyBytes {
		c.fail(quotaExceeded, "user properties of more than %d bytes", k.limits.UserPropertyBytes)
	}
}
