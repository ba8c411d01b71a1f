// @ts-check
/**
 * Beckon's client for browsers, without dependencies. Copy beckon.js, call.js and wire.js; import this one:
 *
 *   import { connect } from "./beckon.js";
 *   const beckon = connect("wss://host/ws", { token });
 *   const room = await beckon.join("garage", { peer: "alice" });
 *   const call = room.call("cam1");
 *   call.addEventListener("track", (event) => { video.srcObject = event.streams[0]; });
 *
 * A Beckon is a connection that comes back by itself, a Room is a place joined over it, a Call is one session
 * with one peer. Who comes back soon resumes: nobody saw us leave, and what we missed follows in order. Later,
 * the rooms are joined anew. Calls outlive the connection either way: media flows from peer to peer, and
 * signaling is needed again only to restart ICE.
 *
 * Here are connect, Beckon and Room; Call is in call.js, and what they share in wire.js.
 */

import { Call } from "./call.js";
import { BeckonError, Emitter, checkName, disconnected } from "./wire.js";
export { BeckonError, Call };

/** @typedef {import("./wire.js").Message} Message */
/** @typedef {import("./wire.js").Presence} Presence */
/** @typedef {import("./wire.js").Wants} Wants */
/** @typedef {import("./wire.js").Token} Token */

/** @typedef {{frame: Message, again: boolean, sent: boolean, resolve: (m: Message) => void, reject: (e: BeckonError) => void}} Request */

const patience = 30; // seconds for which the server keeps our session, unless it is set otherwise

/**
 * Returns at once; the socket opens with the first join, because the server wants one within 10 s.
 * @param {string | URL} url  ws: or wss:
 * @param {{token?: Token, RTCPeerConnection?: RTCConfiguration}} [options]
 */
export function connect(url, options) {
  return new Beckon(url, options);
}

/**
 * @extends {Emitter<{state: {state: Beckon["state"]}, error: {error: BeckonError},
 *   message: {direction: "in" | "out", message: Message, at: number}}>}
 */
export class Beckon extends Emitter {
  /** @type {"idle" | "connecting" | "connected" | "waiting" | "closed"} */
  state = "idle";
  /** Why it waits or was closed. @type {BeckonError | null} */
  error = null;
  /** When the next attempt is made, in milliseconds like Date.now(); meaningful while waiting. */
  retryAt = 0;

  /** @type {WebSocket | null} */ #socket = null;
  /** @type {Map<string, Room>} */ #rooms = new Map();
  /** By id, in the order in which they were made. @type {Map<number, Request>} */ #pending = new Map();
  /** @type {Token | undefined} */ #token;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #watchdog;
  #attempts = 0;
  #lastID = 0;
  #silence = 20; // seconds; the server names its own interval in `joined`
  #key = ""; // of the session on this socket, from its first `joined` on
  #count = 0; // frames that came on it; of the whole session, once it was resumed
  #goingAway = false;
  /** The session whose socket was lost, until it goes on or is known to be over. @type {{resume: string, seen: number, rooms: Room[]} | null} */
  #cut = null;
  #online = () => { if (this.state === "waiting") this.#open(); };

  /** @param {string | URL} url @param {{token?: Token, RTCPeerConnection?: RTCConfiguration}} [options] */
  constructor(url, { token, RTCPeerConnection = {} } = {}) {
    super();
    this.url = new URL(url);
    this.configuration = RTCPeerConnection;
    this.#token = token;
    globalThis.addEventListener?.("online", this.#online);
  }

  /**
   * Waits through reconnects until the room is joined; rejects when the server refuses for good.
   * Without `peer` the server chooses the name: that of the identity.
   * @param {string} name
   * @param {{peer?: string, presence?: Presence}} [options]
   * @returns {Promise<Room>}
   */
  async join(name, { peer, presence = {} } = {}) {
    checkName("room", name);
    if (peer !== undefined) checkName("peer", peer);
    if (this.state === "closed") throw this.error ?? disconnected("this connection was closed");
    let room = this.#rooms.get(name);
    if (!room) {
      this.#rooms.set(name, (room = new Room(this, name, peer, presence)));
      if (this.#socket?.readyState === WebSocket.OPEN && !this.#cut) this.#enter([room]);
      else if (this.state === "idle") this.#open();
    }
    return room._entered;
  }

  /** Gives the live connection a new token, and uses it from now on. @param {string} token */
  refresh(token) {
    this.#token = token;
    return this._request({ type: "refresh", token });
  }

  /** Hangs up every call and leaves every room. */
  close() {
    this.#finish(null);
  }

  /**
   * A frame with an id: resolves with its `ok` or `joined`, rejects with its `error`. While a session is being
   * resumed it waits for that, unless it has to do with it (`now`). What is lost on the way to the server is
   * rejected, or said `again`, which may be asked for in a session's pause, too.
   * @param {Message} frame @param {{again?: boolean, now?: boolean}} [how] @returns {Promise<Message>}
   */
  _request(frame, { again = false, now = false } = {}) {
    const open = this.#socket?.readyState === WebSocket.OPEN;
    if (!open && !(again && (this.#key || this.#cut))) return Promise.reject(disconnected("not connected"));
    const id = ++this.#lastID;
    return new Promise((resolve, reject) => {
      const request = { frame: { ...frame, id }, again, sent: false, resolve, reject };
      this.#pending.set(id, request);
      if (open && (now || !this.#cut)) this.#say(request);
    });
  }

  /** Whether the server may still have us in the room, so that we can come back to it. @param {Room} room */
  _keeps(room) {
    return this.#cut?.rooms.includes(room) ?? false;
  }

  /** Asks for a sign of life, and cuts a connection that gives none. A dead network closes no socket by itself. */
  _check() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#write({ type: "ping" });
    this.#watch(10, () => this.#lost(4012, "the server does not answer"));
  }

  /** @param {string} name @param {Room} room */
  _forget(name, room) {
    if (this.#rooms.get(name) === room) this.#rooms.delete(name);
  }

  /** @param {number} seconds @param {() => void} then */
  #watch(seconds, then) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(then, seconds * 1000);
  }

  #open() {
    clearTimeout(this.#retry);
    if (this.#rooms.size === 0) return this.#set("idle"); // all were left meanwhile
    this.#count = 0;
    this.#goingAway = false;
    this.#set("connecting");
    const socket = (this.#socket = new WebSocket(this.url));
    this.#watch(10, () => this.#lost(4012, "the server cannot be reached"));
    socket.onopen = () => this.#enter([...this.#rooms.values()]);
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  /** @param {Room[]} rooms */
  async #enter(rooms) {
    if (rooms.length === 0) return;
    const socket = this.#socket;
    try {
      const token = typeof this.#token === "function" ? await this.#token() : this.#token;
      if (socket !== this.#socket) return;
      const first = this.#cut?.rooms.find((room) => !room.ended);
      if (this.#cut && !first) this.#anew(disconnected("the rooms of that connection were left"));
      if (!this.#cut || !first) {
        for (const room of rooms) if (!room.ended) room._enter(token).then((joined) => joined && this.#entered(joined), () => {});
        return;
      }
      const { resume, seen } = this.#cut;
      const joined = await first._enter(token, { resume, seen });
      if (joined) this.#entered(joined);
      else if (socket === this.#socket && !this.#key) this.#enter(rooms.filter((room) => !room.ended)); // by another room, then
    } catch (error) {
      if (socket === this.#socket) this.#lost(4000, `no token: ${/** @type {Error} */ (error).message}`);
    }
  }

  /** The first `joined` on a socket says whether the session goes on. @param {Message} joined */
  #arrived({ room: name, resume, resumed, seen }) {
    const first = !this.#key;
    this.#key = resume ?? "";
    if (!this.#cut || !first) return;
    if (!resumed) {
      this.#anew(disconnected("the session was lost with the connection"));
      this.#enter([...this.#rooms.values()].filter((room) => room.name !== name));
      return;
    }
    this.#count = seen;
    for (const room of this.#cut.rooms) if (!room.ended) room._resumed();
    this._request({ type: "ping" }, { now: true }).then(() => this.#settle(), () => {});
  }

  /** A ping was answered after all that we missed: what has no answer now never reached the server. */
  #settle() {
    if (!this.#cut) return;
    this.#cut = null;
    for (const [id, request] of [...this.#pending]) {
      if (request.again || !request.sent) this.#say(request);
      else this.#reject(id, disconnected("it was lost with the connection"));
    }
    this.#enter([...this.#rooms.values()].filter((room) => !room.joined));
  }

  /** What was asked in a session that is over has no answer. @param {BeckonError} error */
  #anew(error) {
    this.#cut = null;
    for (const id of this.#pending.keys()) this.#reject(id, error);
  }

  /** @param {number} id @param {BeckonError} error */
  #reject(id, error) {
    this.#pending.get(id)?.reject(error);
    this.#pending.delete(id);
  }

  /** Only a join ends the backing off: a server that takes connections and drops them is not well yet. @param {Message} joined */
  #entered(joined) {
    this.#attempts = 0;
    this.#silence = joined.ping || 20;
    this.#set("connected");
  }

  /** @param {string} data */
  #receive(data) {
    this.#count++;
    /** @type {Message} */ let message;
    try { message = JSON.parse(data); } catch { return; }
    this.#watch(this.#silence, () => this._check());
    this._emit("message", { direction: "in", message, at: Date.now() });
    const waiting = message.from === undefined && this.#pending.get(message.id); // the id of what a peer says is the peer's
    if (waiting) {
      this.#pending.delete(message.id);
      if (message.type === "error") waiting.reject(new BeckonError(message));
      else waiting.resolve(message);
    } else if (message.type === "goaway") {
      this.#goingAway = true;
      // Everybody was told the same: spread the return over the time that is left.
      const socket = this.#socket;
      setTimeout(() => socket === this.#socket && this.#lost(4001, "the server is going away", 0), Math.random() * 1000 * (message.in ?? 0));
    } else {
      const room = message.room === undefined && this.#rooms.size === 1 ? [...this.#rooms.values()][0] : this.#rooms.get(message.room);
      if (room) room._receive(message);
      else if (message.type === "error") this._emit("error", { error: new BeckonError(message) });
    }
    if (message.type === "joined") this.#arrived(message);
  }

  /** @param {Request} request */
  #say(request) {
    request.sent = true;
    this.#write(request.frame);
  }

  /** @param {Message} frame */
  #write(frame) {
    this.#socket?.send(JSON.stringify(frame));
    const message = frame.token === undefined ? frame : { ...frame, token: "…" }; // listeners show and log it
    this._emit("message", { direction: "out", message, at: Date.now() });
  }

  /** @param {number} code @param {string} reason @param {number} [longest]  seconds to wait; full jitter, as a crowd that lost its server together must not come back together */
  #lost(code, reason, longest = Math.min(30, 0.5 * 2 ** this.#attempts++)) {
    const error = closed(code, reason);
    const final = code >= 4500 && code <= 4999;
    this.#drop(4000, error, !final && code !== 4001 && !this.#goingAway);
    if (final) return this.#finish(error);
    if (this.#rooms.size === 0) return this.#set("idle");
    const wait = Math.random() * longest * 1000;
    this.retryAt = Date.now() + wait;
    this.#retry = setTimeout(() => this.#open(), wait);
    this.#set("waiting", error);
  }

  /**
   * Any code but 1000 and 1001 is a lost connection to the server, which then keeps our place for a while.
   * @param {number} code @param {BeckonError} error @param {boolean} [resumable]
   */
  #drop(code, error, resumable = false) {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null; // what an old socket still says is not for us
      socket.close(code);
    }
    const rooms = [...this.#rooms.values()].filter(({ joined }) => joined);
    for (const room of rooms) room.joined = false;
    if (this.#key) { // else it was lost before its first `joined`: a session before it may still go on
      const cut = (this.#cut = rooms.length > 0 ? { resume: this.#key, seen: this.#count, rooms } : null);
      const last = this.#lastID;
      setTimeout(() => {
        if (!cut || this.#cut !== cut) return;
        for (const [id, { again }] of this.#pending) if (!again && id <= last) this.#reject(id, disconnected(error.message));
      }, patience * 1000);
    }
    this.#key = "";
    if (!resumable || !this.#cut) this.#anew(disconnected(error.message));
  }

  /** @param {BeckonError | null} error */
  #finish(error) {
    if (this.state === "closed") return;
    clearTimeout(this.#retry);
    globalThis.removeEventListener?.("online", this.#online);
    const reason = error ?? disconnected("this connection was closed");
    for (const room of [...this.#rooms.values()]) room._end(reason);
    this.#drop(1000, reason);
    this.#set("closed", error);
  }

  /** @param {Beckon["state"]} state @param {BeckonError | null} [error] */
  #set(state, error = null) {
    if (state !== "connecting") this.error = error; // while trying again, why it was lost stays readable
    if (state === this.state) return;
    this.state = state;
    this._emit("state", { state });
  }
}

/**
 * @extends {Emitter<{presence: {peer: string, presence: Presence | null}, call: {call: Call}, joined: {resumed: boolean},
 *   message: {from: string, all: boolean, message: Message}, error: {error: BeckonError}, end: {error: BeckonError | null}}>}
 */
export class Room extends Emitter {
  /** The other peers, live. @type {Map<string, Presence>} */ peers = new Map();
  /** @type {Set<Call>} */ calls = new Set();
  /** @type {RTCIceServer[]} */ iceServers = [];
  joined = false;
  ended = false;
  /** Resolves at the first joining. @type {Promise<Room>} */ _entered;
  /** @type {(room: Room) => void} */ #resolve = () => {};
  /** @type {(error: BeckonError) => void} */ #reject = () => {};
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #renewal;

  /** @param {Beckon} beckon @param {string} name @param {string | undefined} peer @param {Presence} presence */
  constructor(beckon, name, peer, presence) {
    super();
    this.beckon = beckon;
    this.name = name;
    this.peer = peer ?? ""; // empty until the server has chosen
    this.presence = presence;
    this._entered = new Promise((resolve, reject) => { this.#resolve = resolve; this.#reject = reject; });
    this._entered.catch(() => {}); // whoever waits for it is told; nobody has to
  }

  /**
   * Calls a peer: sends it an offer, or `start` when its presence says that it makes the offers itself.
   * Each kind is "recvonly" by default, "sendrecv" when `stream` has such a track; false leaves it out.
   * @param {string} peer @param {Wants} [wants]
   */
  call(peer, wants = {}) {
    checkName("peer", peer);
    const call = new Call(this, peer, randomID(), wants);
    this.calls.add(call);
    call._begin();
    return call;
  }

  /**
   * Sends a message to one peer, or to everyone else with null. Resolves when it was delivered or is held.
   * @param {string | null} peer @param {Message} message
   */
  async send(peer, message) {
    if (peer !== null && peer !== "_") checkName("peer", peer);
    if (!this.joined) throw disconnected(`${this.name} is not joined at the moment`);
    await this.beckon._request({ ...message, room: this.name, ...(peer === null ? {} : { to: peer }) });
  }

  /** Replaces what this peer says about itself, now and after each reconnect. @param {Presence} presence */
  async announce(presence) {
    this.presence = presence;
    await this._say({ type: "presence", presence }).catch((error) => { if (error.reason !== "disconnected") throw error; });
  }

  /** Sends what is said again if it is lost with the connection and the session goes on. @param {Message} frame */
  async _say(frame) {
    if (!this.joined && !this.beckon._keeps(this)) throw disconnected(`${this.name} is not joined at the moment`);
    await this.beckon._request({ ...frame, room: this.name }, { again: true });
  }

  leave() {
    this._end(null);
  }

  /**
   * Joins the room, or by it resumes a session; then _resumed was called already.
   * @param {string} [token] @param {{resume: string, seen: number}} [session] @returns {Promise<Message | undefined>}
   */
  async _enter(token, session) {
    try {
      const { name: room, presence } = this;
      const join = { type: "join", room, peer: this.peer || undefined, token, presence, resume: true, ...session };
      const joined = await this.beckon._request(join, { now: session !== undefined });
      if (this.ended || joined.resumed) return joined;
      this.joined = true;
      this.peer = joined.peer;
      this.#useICE(joined);
      this.#census(joined.peers ?? []);
      this.#resolve(this);
      this._emit("joined", { resumed: false });
      for (const call of this.calls) call._recover();
      return joined;
    } catch (caught) {
      const error = /** @type {BeckonError} */ (caught);
      if (error.reason === "disconnected" || this.ended) return; // the next connection joins again
      if (!error.temporary) return void this._end(error);
      await new Promise((wake) => setTimeout(wake, 1000 * ((error.retryAfter ?? 1) + Math.random())));
      return this.joined || this.ended ? undefined : this._enter(token, session);
    }
  }

  /** All is as it was, and what was missed follows. */
  _resumed() {
    this.joined = true;
    this._emit("joined", { resumed: true });
    for (const call of this.calls) call._resumed();
  }

  /** @param {Message} m */
  _receive(m) {
    if (m.type === "presence") {
      this.#setPresence(m.peer, m.presence);
    } else if (m.type === "hello" || m.type === "ice") {
      this.#useICE(m);
    } else if (m.type === "error") {
      const call = [...this.calls].find((call) => call.session === m.session && (m.to === undefined || call.peer === m.to));
      const error = new BeckonError(m);
      if (call) call._fail(error);
      else if (m.code === 409) this._end(error); // another connection has our name now; fighting for it helps nobody
      else this._emit("error", { error });
    } else if (m.from === undefined) {
      return; // a pong, or an answer that nobody waits for any more
    } else if (m.session === undefined) {
      this._emit("message", { from: m.from, all: m.all === true, message: m });
    } else {
      let call = [...this.calls].find((call) => call.session === m.session && call.peer === m.from);
      if (call) return call._receive(m);
      if (m.type !== "start" && m.type !== "offer") return; // of a call that is over
      this.calls.add((call = new Call(this, m.from, m.session, {}, m)));
      this._emit("call", { call });
    }
  }

  /** @param {BeckonError | null} error */
  _end(error) {
    if (this.ended) return;
    for (const call of [...this.calls]) call.hangup();
    // Joined or not: the join may be on its way, or the session may go on later.
    if (!error) this.beckon._request({ type: "leave", room: this.name }, { again: true }).catch(() => {});
    this.ended = true;
    this.joined = false;
    clearTimeout(this.#renewal);
    this.beckon._forget(this.name, this);
    this.#reject(error ?? disconnected(`left ${this.name}`));
    this._emit("end", { error });
  }

  /** @param {string} peer @param {Presence | null} presence */
  #setPresence(peer, presence) {
    if (peer === this.peer) return;
    if (presence) this.peers.set(peer, presence);
    else this.peers.delete(peer);
    for (const call of this.calls) if (call.peer === peer && presence?.online !== false && presence) call.gone = false;
    this._emit("presence", { peer, presence });
  }

  /** Compares a fresh list with what was known, so that a reconnect shows as the changes it hid. @param {{peer: string, presence: Presence}[]} list */
  #census(list) {
    const here = new Set(list.map(({ peer }) => peer));
    for (const peer of [...this.peers.keys()]) {
      if (here.has(peer)) continue;
      this.#setPresence(peer, null);
      for (const call of [...this.calls]) if (call.peer === peer) call._receive({ type: "bye", reason: "gone" });
    }
    for (const { peer, presence } of list) {
      if (JSON.stringify(this.peers.get(peer)) !== JSON.stringify(presence)) this.#setPresence(peer, presence);
    }
  }

  /** TURN credentials expire: calls that restart ICE later need the new ones. @param {Message} m */
  #useICE({ iceServers, ttl }) {
    if (Array.isArray(iceServers)) this.iceServers = iceServers;
    for (const call of this.calls) call._configure();
    clearTimeout(this.#renewal);
    if (!(ttl > 0) || this.iceServers.length === 0) return;
    this.#renewal = setTimeout(() => this._say({ type: "ice", to: "_" }).catch(() => {}), Math.min(ttl * 800, 2 ** 31 - 1));
  }
}

/** @param {number} code @param {string} reason */
function closed(code, reason) {
  const [http, name] = /** @type {Record<number, [number, string]>} */ ({
    4501: [400, "bad-request"], 4510: [401, "unauthorized"], 4511: [409, "replaced"], 4512: [403, "forbidden"],
  })[code] ?? [503, "disconnected"];
  return new BeckonError({ code: http, reason: name, message: reason || `the connection was lost (${code})`, temporary: code < 4500 });
}

/** 96 random bits, in the letters that a session may have. */
function randomID() {
  return btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(12)))).replaceAll("+", "-").replaceAll("/", "_");
}
