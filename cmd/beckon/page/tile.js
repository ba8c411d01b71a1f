/** One watched peer: its picture, what is going on in words, and the patience to call again. */

/** @typedef {import("./beckon.js").Room} Room */
/** @typedef {import("./beckon.js").Call} Call */
/** @typedef {import("./beckon.js").BeckonError} BeckonError */
/** @typedef {import("./wire.js").Presence} Presence */
/** @typedef {"calling" | "connecting" | "live" | "offline" | "failed" | "refused" | "ended"} State */
/** @typedef {{state: State, text: string, retry?: number}} Outcome  retry: seconds before calling again; absent: not by itself */

const stalledAfter = 3; // seconds without a byte, from a peer that we have reason to doubt

export class Tile {
  /** @type {Call | null} */ #call = null;
  /** @type {Room | null} */ #room = null;
  /** @type {Presence | null} */ #presence = null;
  #attempts = 0;
  #retryAt = 0;
  #doubt = false; // the peer was started anew, or lost its signaling, since the call began
  #answerBy = 0;
  #bytes = 0;
  #stalled = 0;

  /** @param {string} peer @param {{stopped: (tile: Tile) => void}} on */
  constructor(peer, on) {
    this.peer = peer;
    const template = /** @type {HTMLTemplateElement} */ (document.getElementById("tile-template"));
    this.element = /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
    /** @param {string} selector @returns {any} */
    const part = (selector) => this.element.querySelector(selector);
    this.video = part("video");
    this.parts = { state: part(".state"), next: part(".next"), name: part(".name"), numbers: part(".numbers"), redial: part(".redial"), sound: part(".sound") };
    this.element.dataset.tile = peer;
    this.element.setAttribute("aria-label", peer);
    this.video.setAttribute("aria-label", `Picture of ${peer}`);
    this.parts.name.textContent = peer;
    this.parts.redial.addEventListener("click", () => { this.#attempts = 0; this.dial(); });
    this.parts.sound.addEventListener("click", () => this.#sound(this.video.muted));
    part(".stop").setAttribute("aria-label", `Stop watching ${peer}`);
    part(".stop").addEventListener("click", () => on.stopped(this));
    part(".full").addEventListener("click", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (this.video.requestFullscreen) this.video.requestFullscreen().catch(() => {});
      else this.video.webkitEnterFullscreen?.(); // iPhones
    });
    this.#show({ state: "calling", text: "Waiting for the server…" });
    this.timer = setInterval(() => this.#tick(), 1000);
  }

  /** The room was joined, for the first time or again. @param {Room} room */
  joined(room) {
    this.#room = room;
    this.#presence = room.peers.get(this.peer) ?? null;
    this.#named();
    if (!this.#call) this.dial();
  }

  /** The room is lost for good. @param {string} text */
  shut(text) {
    this.#drop();
    this.#retryAt = 0;
    this.#show({ state: "refused", text });
    this.parts.redial.hidden = true;
  }

  dial() {
    this.#drop();
    this.#retryAt = 0;
    this.#doubt = false;
    this.#bytes = this.#stalled = this.#answerBy = 0;
    const room = this.#room;
    if (!room?.joined) return this.#show({ state: "calling", text: "Waiting for the server…" });
    this.#show({ state: "calling", text: `Calling ${this.peer}…` });
    const call = (this.#call = room.call(this.peer, { video: "recvonly", audio: "recvonly" }));
    call.addEventListener("track", ({ track, streams }) => {
      if (this.#call !== call) return;
      // Some devices name no stream, or one for each track: the tile has one of its own.
      if (!(this.video.srcObject instanceof MediaStream)) this.video.srcObject = streams[0] ?? new MediaStream();
      if (!this.video.srcObject.getTracks().includes(track)) this.video.srcObject.addTrack(track);
      if (track.kind === "audio") this.parts.sound.hidden = false;
      this.video.play().catch(() => {});
    });
    call.addEventListener("state", ({ state }) => {
      if (this.#call !== call) return;
      if (state === "connecting") this.#show({ state: "connecting", text: "Connecting…" });
      if (state === "reconnecting") this.#show({ state: "connecting", text: "Reconnecting…" });
      if (state === "live") {
        this.#attempts = 0;
        this.#show({ state: "live", text: "live" });
      }
    });
    call.addEventListener("end", ({ reason, error }) => {
      if (this.#call !== call) return;
      this.#call = null;
      this.#settle(outcome(this.peer, reason, error, this.#attempts++));
    });
  }

  /** @param {Presence | null} presence */
  changed(presence) {
    const before = this.#presence;
    this.#presence = presence;
    this.#named();
    if (!here(presence)) {
      if (this.#call?.state === "live" || this.#call?.state === "reconnecting") this.#doubt = true;
      else this.#settle(away(this.peer));
      return;
    }
    const anew = !here(before) || before?.since !== presence?.since || (before?.role !== "camera" && presence?.role === "camera");
    if (!anew) return;
    this.#attempts = 0;
    if (!this.#call) return this.dial();
    if (this.#call.state !== "calling") this.#doubt = true;
    else this.#answerBy = Date.now() + 3000; // a call that was held for it is delivered now, unless it went to the old connection
  }

  close() {
    clearInterval(this.timer);
    this.#drop();
    this.element.remove();
  }

  #drop() {
    const call = this.#call;
    this.#call = null; // first, so that its end is not taken for the peer's
    call?.hangup();
    this.video.srcObject = null;
    this.parts.sound.hidden = true;
    this.parts.numbers.textContent = "";
  }

  /** @param {Outcome} outcome */
  #settle(outcome) {
    this.#drop();
    this.#retryAt = outcome.retry === undefined ? 0 : Date.now() + outcome.retry * 1000;
    this.#show(outcome);
    if (this.#retryAt) this.#tick();
    this.parts.redial.hidden = outcome.state === "refused" && outcome.retry === undefined;
  }

  /** @param {Outcome} outcome */
  #show({ state, text }) {
    this.element.dataset.state = state;
    this.parts.state.textContent = text;
    this.parts.next.textContent = "";
    this.parts.redial.hidden = true;
    if (state !== "live") this.parts.numbers.textContent = "";
  }

  #named() {
    const name = this.#presence?.name;
    this.parts.name.textContent = name && name !== this.peer ? `${name} (${this.peer})` : this.peer;
  }

  /** @param {boolean} on */
  #sound(on) {
    this.video.muted = !on;
    this.parts.sound.setAttribute("aria-pressed", String(on));
    this.parts.sound.querySelector("use").setAttribute("href", on ? "#icon-sound" : "#icon-muted");
  }

  async #tick() {
    if (this.#retryAt) {
      const left = Math.ceil((this.#retryAt - Date.now()) / 1000);
      if (left > 0) this.parts.next.textContent = `Trying again in ${left} s`;
      else if (this.#room?.joined) this.dial();
      return;
    }
    const call = this.#call;
    if (call?.state === "calling" && this.#answerBy && Date.now() > this.#answerBy) return this.dial();
    if (!call || (call.state !== "live" && call.state !== "reconnecting" && !this.#doubt)) return;
    let bytes = 0;
    let numbers = "";
    for (const report of (await call.connection.getStats()).values()) {
      if (report.type !== "inbound-rtp") continue;
      bytes += report.bytesReceived;
      if (report.kind !== "video") continue;
      const fps = report.framesPerSecond ?? 0;
      if (report.frameWidth) numbers = `${report.frameWidth}×${report.frameHeight} · ${Math.round(fps)} fps`;
    }
    if (this.#call !== call) return;
    this.#stalled = bytes > this.#bytes ? 0 : this.#stalled + 1;
    this.#bytes = bytes;
    if (this.#stalled >= stalledAfter && (call.gone || this.#doubt)) {
      // ICE takes long to notice; the server has told us, and the picture stands still.
      if (here(this.#presence)) this.dial();
      else this.#settle(away(this.peer));
    } else if (call.state === "live") {
      const trouble = this.#stalled >= stalledAfter ? "no picture arrives" : "waiting for the first picture";
      this.parts.numbers.textContent = this.#stalled < stalledAfter && numbers ? numbers : trouble;
      if (this.#stalled === 0) this.#doubt &&= call.gone;
    }
  }
}

/** @param {Presence | null | undefined} presence */
function here(presence) {
  return Boolean(presence) && presence?.online !== false;
}

/** @param {string} peer @returns {Outcome} */
function away(peer) {
  return { state: "offline", text: `${peer} is not here. It will start by itself when it comes back.` };
}

/** What the end of a call means to whoever watches. @param {string} peer @param {string} reason @param {BeckonError | null} error @param {number} attempts @returns {Outcome} */
function outcome(peer, reason, error, attempts) {
  const retry = error?.retryAfter ?? Math.min(30, 2 ** attempts);
  switch (error?.code ?? reason) {
    case 404: case 480: return away(peer);
    case 401: return { state: "refused", text: `You are not signed in, or your token has expired. ${peer} cannot be called.` };
    case 403: return { state: "refused", text: `You are not allowed to watch ${peer}.` };
    case 408: return { state: "failed", text: `${peer} is here but does not answer.`, retry: Math.max(retry, 5) };
    case 409: return { state: "refused", text: "You joined this room in another window." };
    case 413: return { state: "refused", text: `Our offer is longer than ${peer} can take.` };
    case 429: return { state: "failed", text: "Too many messages at once.", retry };
    case 486: return { state: "failed", text: `${peer} is busy: it has as many viewers as it takes.`, retry: Math.max(retry, 5) };
    case "busy": return { state: "failed", text: `${peer} is busy.`, retry: Math.max(retry, 5) };
    case "refused": return { state: "refused", text: `${peer} refused the call.` };
    case "not-a-camera": return { state: "refused", text: `${peer} sends no picture at the moment.` };
  }
  switch (reason) {
    case "no-route": return { state: "failed", text: `No network route between this browser and ${peer}. A TURN server is probably needed.`, retry: Math.max(retry, 10) };
    case "restarted": return { state: "connecting", text: `${peer} was restarted. Calling again…`, retry: 0 };
    case "hangup": case "stopped": return { state: "ended", text: `${peer} ended the call.` };
  }
  if (error?.temporary) return { state: "failed", text: `The call did not work: ${error.message}.`, retry };
  return error ? { state: "failed", text: `The call did not work: ${error.message}.` } : { state: "ended", text: `${peer} ended the call (${reason}).` };
}
