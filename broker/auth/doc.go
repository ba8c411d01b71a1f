// Package auth turns credentials into an identity and its grants. [New] reads
// what [Config] names and reports every mistake at once; [Auth.Authenticate] is
// the func that package broker and package bridge ask for; [Dev] is another, for
// a developer's own machine.
//
// What is shown is looked at in this order, and the first that applies decides:
//
//  1. a client certificate: its name, with the grants of the users file
//  2. a token (JWT), as bearer token or as the password: what it says
//  3. a user name of the users file, with its password
//  4. any other user name and password, and with a webhook a token that is no
//     JWT: what the webhook says
//
// All else that is shown must be good, too, and of the same name. Nothing falls
// through: a token that is refused is not tried as a password.
//
// A token expires when it says ("exp", without leeway) and counts up to 30 s
// before "nbf". An unknown name costs the hash that a wrong password costs and
// is told in the same words; only where there is a webhook can the names of the
// users file be told from others by the time it takes.
//
// After so many failed logins an address, or a name, is not looked at for a
// while. Guesses at a name do not lock out its owner at an address from which it
// has logged in since the server started; from any other they do, and so they do
// behind a proxy on this machine, where all come from one address, which does not
// count. The reasons, and what is forgotten first, stand at [throttle].
//
// A hash takes tens of milliseconds of a core, so guesses without end would hold
// up calls. Passwords are hashed in a process of their own, therefore, which runs
// only when nothing else wants to ([aside]); few at a time, and few wait, in one
// lane who has logged in before from where it is and in another all others
// ([hasher]). Who does not fit in is told to come again.
//
// A connection by the webhook ends when its answer says ("expires"), or else after
// its "ttl", an hour at least: it has to log in again then, and the webhook is
// asked again. Within ttl it is not asked twice, but after a reload it is.
//
// The files are one immutable state, replaced as a whole by [Auth.Reload], which
// keeps what a broken file said before. [Auth.Run] calls it when files change.
// Who is connected is not known here: the broker asks [Auth.Recheck] for each
// connection when told of a change, and ends a connection at [topics.Identity]'s
// Expires. What an identity may do is decided there, too, by its grants.
//
// Nothing that is shown, and nothing secret in a file, is ever logged or put
// into an error.
package auth
