package threat

// row is a threat, and the doors where its defence has to be shown; none if it
// stands behind all of them, where a test of one package shows it.
type row struct {
	threat string
	at     Doors
}

var rows = [...]row{
	1:  {"reading others' offers and candidates by #, +, $share, retained", MQTT | JSON | HTTP},
	2:  {"speaking as another peer", MQTT | JSON | HTTP},
	3:  {"the wrong room", MQTT | JSON | HTTP},
	4:  {"taking over a client id or a peer name", MQTT | JSON | HTTP},
	5:  {"last will on a foreign topic, $SYS, wildcards, huge", MQTT},
	6:  {"poisoning retained state", MQTT | JSON},
	7:  {"messages held for someone whose grant was revoked or expired", 0},
	8:  {"forged tokens", 0},
	9:  {"a token outliving its expiry or revocation", TCP | TLS5 | WS5 | JSON | HTTP},
	10: {"another site's page opening a WebSocket", WS | JSON | HTTP},
	11: {"compressed bombs", WS | JSON | HTTP},
	12: {"WebSocket frames: length, fragments, pings, unmasked, bad UTF-8", WS | JSON},
	13: {"malformed MQTT", MQTT},
	14: {"memory before authentication", MQTT | JSON | HTTP},
	15: {"slowloris, half CONNECT, one byte a second", MQTT | JSON | HTTP},
	16: {"a flood from one connection", MQTT | JSON | HTTP},
	17: {"amplification by broadcasts or by joining and leaving", MQTT | JSON},
	18: {"connect floods and flapping", MQTT | JSON | HTTP},
	19: {"a receiver that reads nothing", MQTT | JSON | HTTP},
	20: {"names with / + # . * > NUL % or Unicode tricks", TCP | JSON | HTTP},
	21: {"deep or long topics", MQTT | JSON},
	22: {"thousands of user properties", TCP5 | TLS5 | WS5 | HTTP},
	23: {"QoS 2 ids reused, PUBREC never answered", MQTT},
	24: {"secrets in logs, metrics, errors; log injection", TCP | WS | JSON | HTTP},
	25: {"JSON: depth, 1e9999, members twice, lone surrogates", MQTT | JSON | HTTP},
	26: {"theft of TURN credentials", 0},
	27: {"guessing session URLs, somebody else's DELETE or PATCH", HTTP},
	28: {"client certificates: wrong CA, expired, revoked, name tricks, TLS 1.0", TLS | JSON},
	29: {"guessing passwords, timing, burning CPU on hashes", MQTT | JSON | HTTP},
	30: {"forged or looping traffic between nodes", 0},
	31: {"metrics or profiling seen from outside", HTTP},
	32: {"running out of descriptors, disk, memory; the clock jumps", TCP | JSON | HTTP},
	33: {"broken configuration", 0},
}
