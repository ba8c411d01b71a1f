/** The list of signaling messages. All of it is foreign text, so it goes in through textContent only. */

const longest = 500;
const acknowledgements = new Set(["ok", "ping", "pong"]);

/** @typedef {import("./wire.js").Message} Message */

export class Timeline {
  /** @type {{direction: string, message: Message, at: number, meaning: string, row: HTMLDetailsElement}[]} */ #entries = [];
  /** What the ids of our requests were about. @type {Map<number, Message>} */ #asked = new Map();
  #peers = new Set();

  /** @param {(id: string) => any} $ */
  constructor($) {
    this.list = $("timeline");
    this.count = $("log-count");
    this.empty = $("log-empty");
    this.filter = $("log-peer");
    this.filter.addEventListener("change", () => this.#show());
    $("log-quiet").addEventListener("change", (/** @type {any} */ event) => this.list.classList.toggle("quiet", !event.target.checked));
    $("log-clear").addEventListener("click", () => this.clear());
    $("log-copy").addEventListener("click", async (/** @type {any} */ { currentTarget: button }) => {
      const done = await copy(this.text());
      button.textContent = done ? "Copied" : "Not permitted";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  /** @param {{direction: "in" | "out", message: Message, at: number}} event */
  add({ direction, message: original, at }) {
    const message = withoutSecrets(original);
    const request = direction === "in" ? this.#asked.get(message.id) : undefined;
    if (direction === "out" && message.id !== undefined) this.#asked.set(message.id, message);
    if (request) this.#asked.delete(message.id);
    const peer = String(message.from ?? message.to ?? (message.type === "presence" ? message.peer : undefined) ?? request?.to ?? "");
    const meaning = meaningOf(message, request);
    const row = this.#row(direction, message, at, peer, meaning);
    const follow = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
    this.#entries.push({ direction, message, at, meaning, row });
    this.list.append(row);
    if (this.#entries.length > longest) this.#entries.shift()?.row.remove();
    if (peer && !this.#peers.has(peer)) {
      this.#peers.add(peer);
      this.filter.append(new Option(peer, peer));
    }
    row.hidden = this.filter.value !== "" && this.filter.value !== peer;
    this.#counted();
    if (follow) this.list.scrollTop = this.list.scrollHeight;
  }

  clear() {
    this.#entries = [];
    this.#peers.clear();
    this.list.replaceChildren();
    this.filter.replaceChildren(new Option("All peers", ""));
    this.#counted();
  }

  text() {
    return this.#entries.filter(({ row }) => !row.hidden).map(({ direction, message, at, meaning, row }) =>
      `${new Date(at).toISOString()} ${direction === "in" ? "<" : ">"} ${row.dataset.peer || "-"} ${message.type} ${meaning}\n${JSON.stringify(message)}\n`).join("\n");
  }

  #show() {
    for (const { row } of this.#entries) row.hidden = this.filter.value !== "" && this.filter.value !== row.dataset.peer;
    this.list.scrollTop = this.list.scrollHeight;
  }

  #counted() {
    this.count.textContent = this.#entries.length ? String(this.#entries.length) : "";
    this.empty.hidden = this.#entries.length > 0;
  }

  /** @param {"in" | "out"} direction @param {Message} message @param {number} at @param {string} peer @param {string} meaning */
  #row(direction, message, at, peer, meaning) {
    const row = document.createElement("details");
    Object.assign(row.dataset, { type: String(message.type), dir: direction, peer });
    if (acknowledgements.has(message.type)) row.classList.add("acknowledgement");
    const summary = document.createElement("summary");
    summary.append(
      cell("time", new Date(at).toLocaleTimeString([], { hour12: false }) + "." + String(at % 1000).padStart(3, "0")),
      cell("arrow", direction === "in" ? "←" : "→", direction === "in" ? "received" : "sent"),
      cell("peer", peer || "server"), cell("type", String(message.type)), cell("meaning", meaning));
    row.append(summary);
    row.addEventListener("toggle", () => { if (row.open && row.childElementCount === 1) row.append(pretty(message)); });
    return row;
  }
}

/** @param {string} name @param {string} text @param {string} [label] */
function cell(name, text, label) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  if (label) {
    span.setAttribute("role", "img");
    span.setAttribute("aria-label", label);
  }
  return span;
}

/** JSON, with the SDP below it as the lines that it is. @param {Message} message */
function pretty(message) {
  const pre = document.createElement("pre");
  const sdp = typeof message.sdp === "string" ? message.sdp : "";
  pre.textContent = JSON.stringify(sdp ? { ...message, sdp: `(${sdp.split("\n").length - 1} lines, below)` } : message, null, 2) + (sdp && `\n\n${sdp.replaceAll("\r", "").trimEnd()}`);
  return pre;
}

/** @param {Message} message @param {Message} [request] @returns {string} */
function meaningOf(message, request) {
  const words = (/** @type {unknown[]} */ ...parts) => parts.filter(Boolean).join(" · ");
  switch (message.type) {
    case "offer": case "answer": return words(size(message), ...mediaOf(String(message.sdp ?? "")));
    case "candidate": return candidateOf(String(message.candidate ?? ""));
    case "start": return words(message.video && `video ${message.video}`, message.audio && `audio ${message.audio}`);
    case "bye": return words(message.reason ?? "hangup");
    case "error": return words(`${message.code} ${message.reason}`, message.about && `about ${message.about}`, message.message);
    case "join": return words(message.room, message.peer && `as ${message.peer}`, message.seen !== undefined && `resuming after ${message.seen}`);
    case "joined":
      if (message.resumed) return words(`${message.room} as ${message.peer}`, `resumed after ${message.seen}`);
      return words(`${message.room} as ${message.peer}`, message.resumed === false && "not resumed", `${message.peers?.length ?? 0} here`, `${message.iceServers?.length ?? 0} ICE servers`);
    case "presence": return presenceOf(message.presence);
    case "ok": return request ? request.type : "";
    case "ice": case "hello": return `${message.iceServers?.length ?? 0} ICE servers`;
    case "goaway": return words(message.reason, `in ${message.in ?? 0} s`);
    case "ping": case "pong": case "leave": case "refresh": return "";
    default: return words(message.all && "to all", shortened(JSON.stringify(message.data ?? message)));
  }
}

/** @param {any} presence */
function presenceOf(presence) {
  if (presence === null || presence === undefined) return "left";
  if (presence.online === false) return "offline";
  const { role, codecs, offers, via } = presence;
  return [role ?? "online", via, Array.isArray(codecs) && shortened(codecs.join(" ")), offers && "makes offers"].filter(Boolean).join(" · ");
}

/** Each media section with its first codec: "video H264, audio opus". @param {string} sdp */
function mediaOf(sdp) {
  const sections = sdp.split(/^m=/m).slice(1).map((section) => {
    const [kind, port, , payload] = section.split(/\s/);
    const codec = new RegExp(`^a=rtpmap:${Number(payload)} ([^/\r\n]+)`, "m").exec(section)?.[1];
    const direction = /^a=(sendonly|recvonly|sendrecv|inactive)/m.exec(section)?.[1];
    if (kind === "application") return "data";
    return port === "0" ? `${kind} refused` : [kind, codec, direction].filter(Boolean).join(" ");
  });
  return [shortened(sections.join(", "))];
}

/** @param {string} line */
function candidateOf(line) {
  if (line === "") return "end";
  const [, , protocol, , address, port, , type] = line.split(" ");
  return `${type} ${protocol?.toLowerCase()} ${address?.includes(":") ? `[${address}]` : address}:${port}`;
}

/** @param {Message} message */
function size(message) {
  const bytes = new Blob([JSON.stringify(message)]).size;
  return bytes < 1000 ? `${bytes} B` : `${(bytes / 1000).toFixed(1)} kB`;
}

/** @param {string} text */
function shortened(text) {
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}

/** TURN credentials and the keys of sessions have no place in a log that is copied into a report. @param {Message} message */
function withoutSecrets(message) {
  if (typeof message.resume === "string") message = { ...message, resume: "…" };
  if (!Array.isArray(message.iceServers)) return message;
  const iceServers = message.iceServers.map((server) => (server.credential === undefined ? server : { ...server, credential: "…" }));
  return { ...message, iceServers };
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages on plain http have no clipboard of their own.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
