// @ts-check
/** One session with one peer, from the first offer to the bye. Loaded by beckon.js. */
import { BeckonError, Emitter } from "./wire.js";

/** @typedef {import("./wire.js").Message} Message */
/** @typedef {import("./wire.js").Presence} Presence */
/** @typedef {import("./wire.js").Wants} Wants */
/** @typedef {import("./beckon.js").Room} Room */

/**
 * `calling` (nobody has answered), `connecting`, `live`, `reconnecting` (it was live), `ended`.
 * @extends {Emitter<{state: {state: Call["state"]}, track: {track: MediaStreamTrack, streams: readonly MediaStream[], transceiver: RTCRtpTransceiver},
 *   error: {error: BeckonError}, end: {reason: string, error: BeckonError | null}}>}
 */
export class Call extends Emitter {
  /** @type {"calling" | "connecting" | "live" | "reconnecting" | "ended"} */ state = "calling";
  /** The peer's signaling is lost. Its media may still flow, and if so the call goes on until that ends too. */
  gone = false;
  /** @type {RTCPeerConnection | null} */ #pc = null;
  /** The message that began an incoming call, until it is answered. @type {Message | null} */ #first;
  /** @type {RTCIceCandidateInit[]} */ #early = [];
  /** Messages are worked on one after the other. @type {Promise<void>} */ #work = Promise.resolve();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #deadline;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #recovery;
  #offering = false; // this side made the first offer, so it makes those that restart ICE too
  #making = 0; // offers that are made and not said yet
  #wasLive = false;
  #restarts = 0;

  /** @param {Room} room @param {string} peer @param {string} session @param {Wants} wants @param {Message | null} [first] */
  constructor(room, peer, session, wants, first = null) {
    super();
    this.room = room;
    this.peer = peer;
    this.session = session;
    this.wants = wants;
    this.incoming = first !== null;
    this.#first = first;
    this.#expect(first ? 60 : 30, first ? "nobody answered the call" : `${peer} does not answer`);
  }

  /** Made when it is first needed: a call that is refused costs none. */
  get connection() {
    if (this.#pc) return this.#pc;
    const pc = (this.#pc = new RTCPeerConnection(this.#configuration()));
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate === "") return; // some say it per section, all say null in the end
      const init = candidate ? candidate.toJSON() : { candidate: "" };
      this.#send({ type: "candidate", ...init }).catch(() => {}); // if the peer is not there, the offer's error says so
    };
    pc.ontrack = ({ track, streams, transceiver }) => this._emit("track", { track, streams, transceiver });
    pc.onconnectionstatechange = () => this.#moved(pc.connectionState);
    return pc;
  }

  /** Answers an incoming call, sending the tracks of `stream` as far as the caller wants them. @param {MediaStream} [stream] */
  async answer(stream) {
    const first = this.#first;
    if (!first || this.state === "ended") return;
    this.#first = null;
    this.wants = { stream };
    this.#set("connecting");
    this.#expect(30, `no connection with ${this.peer}`);
    if (first.type === "offer") return this._receive(first);
    for (const kind of /** @type {const} */ (["video", "audio"])) {
      const asked = first.video || first.audio ? first[kind] : "recvonly";
      if (asked) this.#add(kind, mirror[asked]);
    }
    await this.#negotiate();
  }

  /** @param {string} [reason] */
  refuse(reason = "refused") {
    this._end(reason, null);
  }

  hangup() {
    this._end("hangup", null);
  }

  async _begin() {
    const { stream, ...wants } = this.wants;
    for (const kind of /** @type {const} */ (["video", "audio"])) {
      wants[kind] ??= stream?.getTracks().some((track) => track.kind === kind) ? "sendrecv" : "recvonly";
    }
    this.wants = { stream, ...wants };
    if (this.room.peers.get(this.peer)?.offers) return this.#start();
    for (const kind of /** @type {const} */ (["video", "audio"])) if (wants[kind]) this.#add(kind, wants[kind]);
    await this.#negotiate();
  }

  /** @param {Message} m */
  _receive(m) {
    if (m.type === "bye") {
      // A peer that vanished did not hang up: while its media flows the call goes on.
      this.gone = m.reason === "gone";
      if (!this.gone) this._end(m.reason ?? "hangup", null, false);
      else if (this.#pc?.connectionState !== "connected") this.#vanished();
      return;
    }
    this.#work = this.#work.then(() => this.#take(m)).catch((error) => this._fail(error));
  }

  /** After the room was joined again, and when ICE has lost its way. */
  _recover() {
    if (this.state === "ended" || this.#first || !this.room.joined || this.#pc?.connectionState === "connected") return;
    this.#expect(15, `no connection with ${this.peer}`);
    if (this.#offering) this.#negotiate();
    else if (!this.incoming && !this.#pc?.remoteDescription) this.#start();
  }

  /** The session went on: what we missed follows and what was lost is said again, so only ICE itself can need us. */
  _resumed() {
    const pc = this.#pc;
    if (this.state === "ended" || this.#first || pc?.connectionState === "connected") return;
    this.#expect(15, `no connection with ${this.peer}`);
    if (pc?.signalingState !== "stable") return; // an offer of ours is under way
    if (pc.connectionState === "failed" || pc.connectionState === "disconnected") this.#moved(pc.connectionState);
  }

  _configure() {
    this.#pc?.setConfiguration(this.#configuration());
  }

  /** What was lost with the connection is said again, or made anew after the next join. @param {unknown} caught */
  _fail(caught) {
    const error = caught instanceof BeckonError ? caught : new BeckonError({ message: String(caught) });
    if (error.reason === "disconnected" || this.state === "ended" || error.about === "bye") return;
    if (error.about === "candidate" || this.#pc?.connectionState === "connected") this._emit("error", { error });
    else this._end(error.reason, error, this.state !== "calling"); // what never arrived needs no bye
  }

  /** @param {string} reason @param {BeckonError | null} error @param {boolean} [tell] */
  _end(reason, error, tell = true) {
    if (this.state === "ended") return;
    clearTimeout(this.#deadline);
    clearTimeout(this.#recovery);
    if (tell) this.#send({ type: "bye", reason }).catch(() => {});
    this.room.calls.delete(this);
    this.#pc?.close();
    this.#set("ended");
    if (error) this._emit("error", { error });
    this._emit("end", { reason, error });
  }

  #start() {
    const { audio, video } = this.wants;
    return this.#send({ type: "start", audio: audio || undefined, video: video || undefined }).catch((error) => this._fail(error));
  }

  /** @param {"audio" | "video"} kind @param {RTCRtpTransceiverDirection | undefined | false} direction */
  #add(kind, direction) {
    const { stream } = this.wants;
    const track = stream?.getTracks().find((track) => track.kind === kind);
    if (!track && direction === "sendrecv") direction = "recvonly";
    if (!direction || (!track && direction === "sendonly")) return;
    const peer = this.room.peers.get(this.peer) ?? {};
    const codecs = direction === "sendonly" ? null : codecsFor(kind, peer);
    if (codecs?.length === 0) return; // it has none of this kind, and a shorter offer fits more devices
    const transceiver = this.connection.addTransceiver(track ?? kind, { direction, streams: track && stream ? [stream] : [] });
    if (codecs) transceiver.setCodecPreferences(codecs);
    if (isSmall(peer)) slim(transceiver);
  }

  /** Makes an offer, restarting ICE if this is not the first one. */
  async #negotiate() {
    const pc = this.connection;
    this.#offering = true;
    this.#making++;
    try {
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: pc.localDescription !== null }));
      if (this.room.peers.get(this.peer)?.trickle === false) await gathered(pc);
      await this.#send({ type: "offer", sdp: pc.localDescription?.sdp });
    } catch (error) {
      this._fail(error);
    } finally {
      this.#making--;
    }
  }

  /** @param {Message} m */
  async #take(m) {
    if (this.state === "ended") return;
    if (m.type === "candidate") return this.#addCandidate(/** @type {any} */ (m));
    if (m.type === "offer" && this.#first) return void (this.#first = m); // said again before it was answered
    if (m.type !== "offer" && m.type !== "answer") return;
    const pc = this.connection;
    if (m.type === "offer") {
      if (this.#offering && (this.#making || pc.signalingState !== "stable")) return; // two at once: the first offerer's stands
      await pc.setRemoteDescription(/** @type {any} */ (m));
      await this.#attach();
      await pc.setLocalDescription();
      await this.#send({ type: "answer", sdp: pc.localDescription?.sdp });
    } else {
      if (pc.signalingState !== "have-local-offer") return;
      const before = pc.currentRemoteDescription?.sdp;
      if (before && fingerprint(before) !== fingerprint(m.sdp)) {
        // A process that has never seen this session took our ICE restart for a new call.
        return this._end("restarted", new BeckonError({ reason: "restarted", message: `${this.peer} was restarted`, temporary: true }));
      }
      await pc.setRemoteDescription(/** @type {any} */ (m));
    }
    if (this.state === "calling") {
      this.#set("connecting");
      this.#expect(30, `no connection with ${this.peer}`);
    }
    for (const candidate of this.#early.splice(0)) await this.#addCandidate(candidate);
  }

  /** @param {RTCIceCandidateInit} candidate */
  async #addCandidate(candidate) {
    if (!this.#pc?.remoteDescription) return void this.#early.push(candidate);
    await this.#pc.addIceCandidate(candidate).catch(() => {}); // of an earlier ICE generation, or of a kind not known here
  }

  /** Puts our tracks where the offer has room for them; the browser cuts the directions to what both want. */
  async #attach() {
    const { stream } = this.wants;
    const transceivers = this.connection.getTransceivers().filter(({ direction }) => direction !== "stopped");
    const tracks = stream?.getTracks().filter((track) => !transceivers.some(({ sender }) => sender.track === track)) ?? [];
    for (const track of tracks) {
      const place = transceivers.find(({ sender, receiver }) => !sender.track && receiver.track.kind === track.kind);
      if (!place || !stream) continue;
      place.direction = "sendrecv";
      place.sender.setStreams?.(stream);
      await place.sender.replaceTrack(track);
    }
  }

  /** @param {RTCPeerConnectionState} state */
  #moved(state) {
    if (state === "connected") {
      clearTimeout(this.#deadline);
      clearTimeout(this.#recovery);
      this.#wasLive = true;
      this.#restarts = 0;
      this.#set("live");
    } else if (state === "disconnected" || state === "failed") {
      if (this.gone) return this.#vanished();
      if (state === "failed" && (!this.#wasLive || this.#restarts++ > 2)) return this.#noRoute();
      if (this.state === "live") this.#set("reconnecting");
      this.room.beckon._check(); // what took the media may have taken the signaling too
      clearTimeout(this.#recovery);
      this.#recovery = setTimeout(() => this._recover(), state === "failed" ? 0 : 2000); // disconnected often heals by itself
    }
  }

  /** While signaling is down no answer can come; the re-join sets a new deadline. @param {number} seconds @param {string} message */
  #expect(seconds, message) {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => {
      if (!this.room.joined) return;
      if (this.state === "connecting") this.#noRoute();
      else this._end("timeout", new BeckonError({ code: 408, reason: "timeout", message, temporary: true }));
    }, seconds * 1000);
  }

  #noRoute() {
    const message = `no network route to ${this.peer}: a TURN server is probably needed`;
    this._end("no-route", new BeckonError({ reason: "no-route", message, temporary: true }));
  }

  #vanished() {
    this._end("gone", new BeckonError({ code: 480, reason: "gone", message: `${this.peer} is gone`, temporary: true }), false);
  }

  #configuration() {
    const { configuration } = this.room.beckon;
    return { ...configuration, iceServers: [...(configuration.iceServers ?? []), ...this.room.iceServers] };
  }

  /** @param {Message} message */
  #send({ type, ...members }) {
    return this.room._say({ type, session: this.session, ...members, to: this.peer });
  }

  /** @param {Call["state"]} state */
  #set(state) {
    if (state === this.state) return;
    this.state = state;
    this._emit("state", { state });
  }
}

/** What the other side wants, seen from here. @type {Record<string, RTCRtpTransceiverDirection>} */
const mirror = { recvonly: "sendonly", sendonly: "recvonly", sendrecv: "sendrecv" };

/** The codecs worth offering to a peer, or null for all. @param {"audio" | "video"} kind @param {Presence} peer */
function codecsFor(kind, { codecs, max }) {
  const known = (/** @type {string} */ of) => RTCRtpReceiver.getCapabilities(of)?.codecs ?? [];
  const name = (/** @type {{mimeType: string}} */ { mimeType }) => mimeType.split("/")[1].toLowerCase();
  const wanted = Array.isArray(codecs) ? codecs.map((codec) => String(codec).toLowerCase()) : [];
  if (![...known("video"), ...known("audio")].some((codec) => wanted.includes(name(codec)))) return null;
  const chosen = known(kind).filter((codec) => wanted.includes(name(codec)));
  if (chosen.length === 0) return [];
  if (isSmall({ max })) return chosen.filter(({ sdpFmtpLine }) => !sdpFmtpLine?.includes("packetization-mode=0")); // a browser has each H264 twice
  return [...chosen, ...known(kind).filter((codec) => name(codec) === "rtx")];
}

/** Whether a browser's usual offer of 6 kB would be too much. @param {Presence} peer */
function isSmall({ max }) {
  return Boolean(max && max < 8192);
}

/** Leaves out the header extensions that a small device does without; not every browser lets us. @param {any} transceiver */
function slim(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.();
  if (!extensions || !transceiver.setHeaderExtensionsToNegotiate) return;
  for (const extension of extensions) if (!/:mid$|transport-wide-cc/.test(extension.uri)) extension.direction = "stopped";
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}

/** @param {string} sdp */
function fingerprint(sdp) {
  return /a=fingerprint:(\S+ \S+)/.exec(sdp)?.[1].toLowerCase();
}

/** @param {RTCPeerConnection} pc @returns {Promise<void>} */
function gathered(pc) {
  return new Promise((resolve) => {
    const look = () => { if (pc.iceGatheringState === "complete") resolve(); };
    pc.addEventListener("icegatheringstatechange", look);
    setTimeout(resolve, 5000); // one STUN server that does not answer must not hold up the call
    look();
  });
}
