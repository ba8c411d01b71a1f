// Package broker holds the rooms: who is in them, on which connection, and how
// what a peer says reaches another. It embeds mochi-mqtt, and is the only
// package that knows it.
//
//	MQTT client --guard--> mochi --hook--> Session.publish --> room --> peer's Session --+--> guard --> MQTT client
//	other doors ----------- Connect -----> Session.Publish -/                            +--> inbox of the door
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
// # What is asked of mochi, and what is not
//
// mochi reads and writes packets, answers CONNECT, SUBSCRIBE, PUBLISH and PING,
// and keeps the QoS 2 state of what clients send. Its topic index, retained
// messages, sessions, wills, listeners, event loop and outgoing queues are not
// used: rooms are a map, presence is the room's, and each client numbers its own
// outgoing messages. Package guard stands before it, since mochi 2.7.9 can be
// crashed, stalled and filled by what a client sends. What is wrong with it, what
// stands in front of each fault, and the test that shows it, is listed at the top
// of faults_test.go.
package broker
