/** The list of peers in the room. Names and facts are foreign text, so they go in through textContent only. */

/** @typedef {import("./wire.js").Presence} Presence */
/** @typedef {{watch: (peer: string) => void, watching: (peer: string) => boolean}} On */

export class PeerList {
  /** @type {Map<string, HTMLElement>} */ #rows = new Map();

  /** @param {(id: string) => any} $ @param {On} on */
  constructor($, on) {
    this.list = $("peers");
    this.count = $("peer-count");
    this.alone = $("alone");
    this.template = $("peer-template");
    this.on = on;
  }

  /** @param {{peer: string, presence: Presence} | null} me @param {Map<string, Presence>} others */
  show(me, others) {
    const entries = [...others].sort(([a, first], [b, second]) => rank(first) - rank(second) || a.localeCompare(b, undefined, { numeric: true }));
    if (me) entries.push([me.peer, { ...me.presence, online: true }]);
    const rows = entries.map(([peer, presence]) => this.#row(peer, presence, peer === me?.peer));
    const gone = new Set(this.#rows.keys());
    for (const [peer] of entries) gone.delete(peer);
    for (const peer of gone) {
      this.#rows.get(peer)?.remove();
      this.#rows.delete(peer);
    }
    // Moving a row takes its focus away: only those are moved that stand in the wrong place.
    rows.forEach((row, i) => { if (this.list.children[i] !== row) this.list.insertBefore(row, this.list.children[i] ?? null); });
    this.count.textContent = entries.length ? String(entries.length) : "";
    this.alone.hidden = others.size > 0;
  }

  /** @param {string} peer @param {Presence} presence @param {boolean} mine */
  #row(peer, presence, mine) {
    let row = this.#rows.get(peer);
    if (!row) {
      row = /** @type {HTMLElement} */ (this.template.content.firstElementChild.cloneNode(true));
      row.dataset.peer = peer;
      row.querySelector(".watch")?.addEventListener("click", () => this.on.watch(peer));
      this.#rows.set(peer, row);
    }
    /** @param {string} selector @returns {any} */
    const part = (selector) => row.querySelector(selector);
    const online = presence.online !== false;
    const camera = presence.role === "camera";
    row.dataset.role = String(presence.role ?? "peer");
    row.dataset.online = String(online);
    part("use").setAttribute("href", camera ? "#icon-camera" : presence.role === "viewer" ? "#icon-viewer" : "#icon-peer");
    part(".name").textContent = presence.name || peer;
    const facts = [presence.name && presence.name !== peer && peer, mine && "you", presence.role && presence.role !== "camera" && presence.role !== "viewer" && presence.role,
      presence.via, since(presence, online)];
    part(".facts").textContent = facts.filter(Boolean).join(" · ");
    const tags = [...(Array.isArray(presence.codecs) ? presence.codecs : []), presence.offers && "makes offers", presence.trickle === false && "no trickle",
      presence.max && `max ${presence.max >= 1024 ? `${Math.round(presence.max / 1024)} KiB` : `${presence.max} B`}`];
    part(".tags").replaceChildren(...tags.filter(Boolean).slice(0, 12).map((text) => {
      const tag = document.createElement("span");
      tag.textContent = String(text);
      return tag;
    }));
    const watch = part(".watch");
    const watching = this.on.watching(peer);
    watch.hidden = mine;
    watch.textContent = watching ? "Stop" : "Watch";
    watch.setAttribute("aria-label", `${watching ? "Stop watching" : "Watch"} ${presence.name || peer}`);
    watch.classList.toggle("primary", camera && online && !watching);
    return row;
  }
}

/** Cameras that are here, others that are here, those who are not. @param {Presence} presence */
function rank(presence) {
  return (presence.online === false ? 2 : 0) + (presence.role === "camera" ? 0 : 1);
}

/** @param {Presence} presence @param {boolean} online */
function since({ since }, online) {
  if (!since) return online ? "" : "offline";
  const seconds = Math.max(0, Date.now() / 1000 - since);
  const [n, unit] = seconds < 60 ? [0, ""] : seconds < 3600 ? [seconds / 60, "min"] : seconds < 86400 ? [seconds / 3600, "h"] : [seconds / 86400, "d"];
  const time = unit ? `${Math.floor(n)} ${unit}` : "";
  if (!online) return time ? `offline for ${time}` : "offline since just now";
  return time ? `here for ${time}` : "just came";
}
