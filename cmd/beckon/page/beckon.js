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
 * A Beckon is a connection that comes back by itself, a Room is a place joined over it (and joined again
 * after each reconnect), a Call is one session with one peer. Calls outlive the connection: media flows from
 * peer to peer, and signaling is needed again only to restart ICE.
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
  /** @type {Map<number, {resolve: (m: Message) => void, reject: (e: BeckonError) => void}>} */ #pending = new Map();
  /** @type {Token | undefined} */ #token;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #watchdog;
  #attempts = 0;
  #lastID = 0;
  #silence = 20; // seconds; the server names its own interval in `joined`
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
      if (this.#socket?.readyState === WebSocket.OPEN) this.#enter([room]);
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

  /** A frame with an id: resolves with its `ok` or `joined`, rejects with its `error`. @param {Message} frame @returns {Promise<Message>} */
  _request(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return Promise.reject(disconnected("not connected"));
    const id = ++this.#lastID;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#write({ ...frame, id });
    });
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
    this.#set("connecting");
    const socket = (this.#socket = new WebSocket(this.url));
    this.#watch(10, () => this.#lost(4012, "the server cannot be reached"));
    socket.onopen = () => this.#enter([...this.#rooms.values()]);
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  /** @param {Room[]} rooms */
  async #enter(rooms) {
    const socket = this.#socket;
    try {
      const token = typeof this.#token === "function" ? await this.#token() : this.#token;
      if (socket !== this.#socket) return;
      for (const room of rooms) room._enter(token).then((joined) => joined && this.#entered(joined), () => {});
    } catch (error) {
      if (socket === this.#socket) this.#lost(4000, `no token: ${/** @type {Error} */ (error).message}`);
    }
  }

  /** Only a join ends the backing off: a server that takes connections and drops them is not well yet. @param {Message} joined */
  #entered(joined) {
    this.#attempts = 0;
    this.#silence = joined.ping || 20;
    this.#set("connected");
  }

  /** @param {string} data */
  #receive(data) {
    /** @type {Message} */ let message;
    try { message = JSON.parse(data); } catch { return; }
    this.#watch(this.#silence, () => this._check());
    this._emit("message", { direction: "in", message, at: Date.now() });
    const waiting = message.id !== undefined && this.#pending.get(message.id);
    if (waiting) {
      this.#pending.delete(message.id);
      if (message.type === "error") waiting.reject(new BeckonError(message));
      else waiting.resolve(message);
    } else if (message.type === "goaway") {
      // Everybody was told the same: spread the return over the time that is left.
      const socket = this.#socket;
      setTimeout(() => socket === this.#socket && this.#lost(4001, "the server is going away", 0), Math.random() * 1000 * (message.in ?? 0));
    } else {
      const room = message.room === undefined && this.#rooms.size === 1 ? [...this.#rooms.values()][0] : this.#rooms.get(message.room);
      if (room) room._receive(message);
      else if (message.type === "error") this._emit("error", { error: new BeckonError(message) });
    }
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
    this.#drop(4000, error);
    if (code >= 4500 && code <= 4999) return this.#finish(error);
    if (this.#rooms.size === 0) return this.#set("idle");
    const wait = Math.random() * longest * 1000;
    this.retryAt = Date.now() + wait;
    this.#retry = setTimeout(() => this.#open(), wait);
    this.#set("waiting", error);
  }

  /** Any code but 1000 and 1001 is a lost connection to the server, which then keeps our place for a while. @param {number} code @param {BeckonError} error */
  #drop(code, error) {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null; // what an old socket still says is not for us
      socket.close(code);
    }
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(disconnected(error.message));
    for (const room of this.#rooms.values()) room.joined = false;
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
 * @extends {Emitter<{presence: {peer: string, presence: Presence | null}, call: {call: Call}, joined: {},
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
    if (this.joined) await this.beckon._request({ type: "presence", room: this.name, presence });
  }

  leave() {
    this._end(null);
  }

  /** @param {string} [token] @returns {Promise<Message | undefined>} */
  async _enter(token) {
    try {
      const { name: room, presence } = this;
      const joined = await this.beckon._request({ type: "join", room, peer: this.peer || undefined, token, presence });
      if (this.ended) return;
      this.joined = true;
      this.peer = joined.peer;
      this.#useICE(joined);
      this.#census(joined.peers ?? []);
      this.#resolve(this);
      this._emit("joined", {});
      for (const call of this.calls) call._recover();
      return joined;
    } catch (caught) {
      const error = /** @type {BeckonError} */ (caught);
      if (error.reason === "disconnected" || this.ended) return; // the next connection joins again
      if (!error.temporary) return void this._end(error);
      await new Promise((wake) => setTimeout(wake, 1000 * ((error.retryAfter ?? 1) + Math.random())));
      return this.joined || this.ended ? undefined : this._enter(token);
    }
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
    if (this.joined && !error) this.beckon._request({ type: "leave", room: this.name }).catch(() => {});
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
    this.#renewal = setTimeout(() => this.send("_", { type: "ice" }).catch(() => {}), Math.min(ttl * 800, 2 ** 31 - 1));
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
