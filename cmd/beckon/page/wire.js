// @ts-check
/** What the client module's parts share: the shapes of the wire, its errors, its events, its names. */

/**
 * What a peer says about itself; the server adds `since` (Unix seconds) and `via`.
 * @typedef {{online?: boolean, role?: string, name?: string, offers?: boolean, trickle?: boolean, max?: number,
 *   codecs?: string[], info?: object, since?: number, via?: string, [member: string]: unknown}} Presence
 * @typedef {{type: string, [member: string]: any}} Message
 * @typedef {RTCRtpTransceiverDirection | false} Direction
 * @typedef {{audio?: Direction, video?: Direction, stream?: MediaStream}} Wants
 * @typedef {string | (() => string | Promise<string>)} Token  a function is asked again at each reconnect
 */

/**
 * Why something did not work. `code` and `reason` are the server's, or come from here:
 * `disconnected`, `no-route` (ICE found no way), `restarted` (the peer came back as a new process), `gone`.
 */
export class BeckonError extends Error {
  /** @param {{code?: number, reason?: string, message?: string, temporary?: boolean, retryAfter?: number, about?: string, [member: string]: unknown}} from */
  constructor({ code = 0, reason = "failed", message = reason, temporary = false, retryAfter, about }) {
    super(message);
    this.name = "BeckonError";
    this.code = code;
    this.reason = reason;
    this.temporary = temporary; // whether trying again can help
    this.retryAfter = retryAfter; // seconds
    this.about = about; // the type of the message it is about
  }
}

/**
 * EventTarget with events that carry their members directly: `event.call`, not `event.detail.call`.
 * @template {Record<string, object>} Events
 */
export class Emitter extends EventTarget {
  /**
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {((event: Event & Events[Type]) => void) | EventListenerObject | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, /** @type {any} */ (listener), options);
  }

  /** @template {keyof Events & string} Type @param {Type} type @param {Events[Type]} members */
  _emit(type, members) {
    this.dispatchEvent(Object.assign(new Event(type), members));
  }
}

/** @param {string} what @param {string} name */
export function checkName(what, name) {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(name)) return;
  const message = `"${name}" is no ${what} name: 1 to 64 letters, digits, "_", "." and "-", beginning with a letter or digit`;
  throw new BeckonError({ code: 400, reason: "bad-request", message });
}

/** @param {string} message */
export function disconnected(message) {
  return new BeckonError({ code: 503, reason: "disconnected", message, temporary: true });
}
