// Package broker holds the rooms: who is in them, on which connection, and how
// what a peer says reaches another. It embeds mochi-mqtt, and is the only
// package that knows it.
//
//	                      +-- SUBSCRIBE, QoS 2, ... --> mochi --hook--+
//	MQTT client --guard---+-- PUBLISH of QoS 0 and 1 -----------------+--> Session.publish --> room --> peer's Session --+--> guard --> MQTT client
//	other doors -- Connect -----> Session.Publish ----------------------------------------------/                        +--> inbox of the door
//
// A [Broker] owns the rooms, by name. A room owns its peers and members, under
// one lock, and everything that happens in a room happens under it, in order:
// so a message never overtakes another, and a receiver sees a presence before
// what is said under it. Delivery appends to the receiver's bounded queue and
// never waits. A [Session] is one connection on the bus, whichever door it came
// by; in each room it is a member, with its subscriptions, and, when it joined,
// it carries the peer of its identity's name. A peer outlives its connection by
// the grace.
//
// # Bounds that are no settings
//
// What waits for a peer that is expected back, or asleep, has as many bytes as may
// wait for a connection (Config.Queue), properties and all, and is counted with what
// waits for those (Config.Queued). Of one sender half of that may wait, and half of
// Config.MaxHeld but at least 32 messages (hold.go).
//
// A device stays listed in 256 rooms at most (listed.go), and in each until it may not
// be there any more or the server stops.
//
// Outside the rooms 10,000 topics may have a retained message, of 64 MiB together, of
// which one identity has half (retained.go).
//
// # What a presence costs
//
// A presence goes to every member of the room, as a message to all does, and counts
// in the same budget (Config.Rate); to come, in one of joins (Config.Joins). So one
// connection in a room of N has the server write N times its budget at most, by
// presences no more than by messages. They are not coalesced, therefore: it would
// bound nothing more, and a member would see a peer come whose going it was never
// told. budget_test.go holds the ratio.
//
// # What is asked of mochi, and what is not
//
// mochi reads and answers CONNECT, SUBSCRIBE, UNSUBSCRIBE and what belongs to QoS
// 2, whose state it keeps for what clients send, and writes every packet that says
// something in words. Each of these is handed to it by the connection's one
// goroutine (client.converse), whole, and answered when that returns.
//
// Messages pass it by: a PUBLISH of QoS 0 or 1, its PUBACK, PINGREQ and every
// PUBLISH to a client are read and written here (incoming.go, publication.go,
// outgoing.go), since the guard has taken such a packet apart already, and mochi's
// way cost more than the room's: it copies a packet twice, hands a kilobyte by
// value from function to function, and keeps each message in a map until it is
// acknowledged. That was half of the time of a message, and most of an idle
// connection's memory was the stacks and buffers of the two goroutines that mochi
// starts for each.
//
// Not used are its loops, clients, topic index, retained messages, sessions, wills,
// listeners, events and outgoing queues: rooms are a map, presence is the room's,
// and each client numbers its own outgoing messages. Package guard stands before
// it, since mochi 2.7.9 can be crashed, stalled and filled by what a client sends.
// What is wrong with it, what stands in front of each fault, and the test that
// shows it, is listed at the top of faults_test.go.
package broker
