/** The console page: a room, its peers, the cameras on screen, this browser as a camera, and the log of it all. */
import { connect } from "./beckon.js";
import { openSource, sendable } from "./camera.js";
import { PeerList } from "./peers.js";
import { Tile } from "./tile.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./beckon.js").Beckon} Beckon */
/** @typedef {import("./beckon.js").Room} Room */
/** @typedef {import("./beckon.js").BeckonError} BeckonError */

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);
const address = new URL(location.href);

/** @type {Beckon | null} */ let beckon = null;
/** @type {Room | null} */ let room = null;
/** @type {import("./camera.js").Source | null} */ let source = null;
/** @type {Map<string, Tile>} */ const tiles = new Map();
let madeUp = false; // nobody chose our name, so the server may

const timeline = new Timeline($);
const peers = new PeerList($, { watch: (peer) => (tiles.has(peer) ? stopWatching(peer) : watch(peer)), watching: (peer) => tiles.has(peer) });

// The room

/** @param {{room: string, peer: string}} where */
async function enter({ room: name, peer }) {
  beckon?.close();
  room = null;
  problem("");
  peers.show(null, new Map());
  const mine = (beckon = connect(new URL("ws", location.href).href.replace(/^http/, "ws").replace(/[?#].*$/, ""), { token: $("token").value || undefined }));
  mine.addEventListener("state", () => mine === beckon && showConnection());
  mine.addEventListener("message", (event) => timeline.add(event));
  mine.addEventListener("error", ({ error }) => mine === beckon && problem(error.message));
  const joining = mine.join(name, { peer: peer || undefined, presence: presence() });
  showConnection();
  try {
    const joined = await joining;
    if (mine !== beckon) return;
    $("peer").value = peer = joined.peer;
    madeUp = false;
    remember(name);
    settle(joined);
  } catch (caught) {
    if (mine !== beckon) return;
    const error = /** @type {BeckonError} */ (caught);
    if (madeUp && (error.code === 403 || error.code === 400)) {
      // Outside --dev a token decides who we are.
      madeUp = false;
      $("peer").value = "";
      return enter({ room: name, peer: "" });
    }
    refused(error);
  }
}

/** @param {Room} joined */
function settle(joined) {
  room = joined;
  const current = () => room === joined;
  joined.addEventListener("joined", () => { if (current()) everyTile((tile) => tile.joined(joined)); });
  joined.addEventListener("presence", ({ peer, presence }) => {
    if (!current()) return;
    tiles.get(peer)?.changed(presence);
    showPeers();
  });
  joined.addEventListener("call", ({ call }) => {
    if (!source) return call.refuse("not-a-camera");
    call.addEventListener("state", showViewers);
    call.answer(source.stream);
  });
  joined.addEventListener("error", ({ error }) => current() && problem(error.message));
  joined.addEventListener("end", ({ error }) => { if (current() && error) refused(error); });
  everyTile((tile) => tile.joined(joined));
  if (source && joined.presence.role !== "camera") announce(); // it was started while we joined
  showPeers();
  showConnection();
  writeAddress();
}

/** @param {BeckonError} error */
function refused(error) {
  if (error.reason === "disconnected") return;
  const replaced = error.code === 409;
  const text = replaced ? "You joined this room in another window." : `Refused: ${error.message}`;
  status(replaced ? "replaced" : "refused", text);
  $("again").hidden = false;
  if (error.code === 401 || error.code === 403) $("access").open = true;
  problem(replaced ? "" : error.message);
  everyTile((tile) => tile.shut(replaced ? text : `The server refused this browser: ${error.message}`));
  room = null;
  peers.show(null, new Map());
  showViewers();
  showJoin();
}

/** @param {(tile: Tile) => void} act */
function everyTile(act) {
  for (const tile of tiles.values()) act(tile);
}

function showPeers() {
  if (room) peers.show({ peer: room.peer, presence: presence() }, room.peers);
}

function presence() {
  if (!source) return { role: "viewer" };
  return { role: "camera", codecs: sendable(source.stream), info: { source: source.kind } };
}

// The connection, in words

function showConnection() {
  if (!beckon) return;
  const { state, error } = beckon;
  $("again").hidden = true;
  if (state === "connected") status("connected", "Connected");
  else if (state === "waiting") status("waiting", "Reconnecting", error?.message);
  else if (state === "closed" && error) refused(error);
  else if ($("status").dataset.state !== "waiting") status("connecting", "Connecting…");
  countDown();
  showJoin();
}

/** Join stands out while there is something to join. */
function showJoin() {
  const there = room?.name === $("room").value && room?.peer === $("peer").value;
  $("join").classList.toggle("primary", !there);
  $("join").textContent = there ? "Joined" : "Join";
}

function countDown() {
  const left = beckon?.state === "waiting" ? Math.max(1, Math.ceil((beckon.retryAt - Date.now()) / 1000)) : 0;
  $("countdown").textContent = left ? `in ${left} s` : "";
}

/** @param {string} state @param {string} text @param {string} [why] */
function status(state, text, why = "") {
  const element = $("status");
  element.dataset.state = state;
  element.title = why;
  if (element.textContent !== text) element.textContent = text; // said again only when it changes
}

/** @param {string} text */
function problem(text) {
  $("join-error").textContent = text;
  $("join-error").hidden = text === "";
}

// Watching

/** @param {string} peer */
function watch(peer) {
  if (tiles.has(peer)) return;
  const tile = new Tile(peer, { stopped: () => stopWatching(peer) });
  tiles.set(peer, tile);
  $("tiles").append(tile.element);
  if (room?.joined) tile.joined(room);
  tilesChanged();
}

/** @param {string} peer */
function stopWatching(peer) {
  tiles.get(peer)?.close();
  tiles.delete(peer);
  tilesChanged();
}

function tilesChanged() {
  $("nothing").hidden = tiles.size > 0;
  $("tiles").dataset.count = String(tiles.size);
  showPeers();
  writeAddress();
}

// This browser as a camera

async function startCamera() {
  const toggle = $("camera-toggle");
  toggle.disabled = true;
  const test = $("test-picture").checked;
  cameraState("starting", test ? "Starting…" : "Asking for the camera…");
  const opened = await openSource({ test, microphone: $("microphone").checked, label: () => (room ? `${room.peer} in ${room.name}` : "") });
  source = opened;
  toggle.disabled = false;
  $("preview").srcObject = opened.stream;
  $("preview-box").hidden = false;
  opened.stream.getVideoTracks()[0]?.addEventListener("ended", () => source === opened && stopCamera("The camera was taken away."));
  cameraState("on", "");
  showViewers();
  announce();
}

/** @param {string} [why] */
function stopCamera(why = "Stopped. Others in the room can no longer watch.") {
  for (const call of [...(room?.calls ?? [])]) if (call.incoming) call.hangup();
  source?.close();
  source = null;
  $("preview").srcObject = null;
  $("preview-box").hidden = true;
  cameraState("off", why);
  announce();
}

/** @param {"off" | "starting" | "on"} state @param {string} text */
function cameraState(state, text) {
  $("camera").dataset.state = state;
  $("camera-status").textContent = text;
  $("camera-toggle").textContent = state === "on" ? "Stop camera" : "Start camera";
  for (const id of ["test-picture", "microphone"]) $(id).disabled = state !== "off";
}

function announce() {
  room?.announce(presence()).catch(() => {});
  showPeers();
  writeAddress();
}

function showViewers() {
  if (!source) return;
  const viewers = [...(room?.calls ?? [])].filter((call) => call.incoming && call.state !== "ended").length;
  $("camera").dataset.viewers = String(viewers);
  const what = source.kind === "webcam" ? "Sending the webcam" : source.why ? `Sending the test picture: ${source.why}` : "Sending the test picture";
  $("camera-status").textContent = `${what} · ${viewers === 0 ? "no viewers" : viewers === 1 ? "1 viewer" : `${viewers} viewers`}`;
}

// What is remembered: the address says where we are, so a reload or a link comes back here

function writeAddress() {
  const query = new URLSearchParams({ room: $("room").value });
  if ($("peer").value) query.set("peer", $("peer").value);
  for (const peer of tiles.keys()) query.append("watch", peer);
  const camera = address.searchParams.get("camera");
  if (camera && source) query.set("camera", camera);
  history.replaceState(null, "", `?${query}`);
  document.title = `${$("room").value} · Beckon`;
}

/** @returns {string[]} */
function recentRooms() {
  try {
    const list = JSON.parse(localStorage.getItem("beckon.rooms") ?? "[]");
    return Array.isArray(list) ? list.filter((name) => typeof name === "string") : [];
  } catch {
    return []; // storage may be switched off
  }
}

/** @param {string} [name] */
function remember(name) {
  const rooms = recentRooms();
  const list = name ? [name, ...rooms.filter((other) => other !== name)].slice(0, 6) : rooms;
  try {
    localStorage.setItem("beckon.rooms", JSON.stringify(list));
    sessionStorage.setItem("beckon.token", $("token").value);
  } catch { /* then it is not remembered */ }
  $("recent").hidden = list.length < 2;
  $("recent").replaceChildren(...list.map((recent) => {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = recent;
    chip.setAttribute("aria-pressed", String(recent === $("room").value));
    chip.addEventListener("click", () => { $("room").value = recent; joinForm(); });
    return chip;
  }));
}

function friendlyName() {
  const letters = "23456789abcdefghjkmnpqrstuvwxyz";
  return `viewer-${Array.from(crypto.getRandomValues(new Uint8Array(4)), (n) => letters[n % letters.length]).join("")}`;
}

function joinForm() {
  for (const peer of [...tiles.keys()]) stopWatching(peer);
  enter({ room: $("room").value, peer: $("peer").value });
}

$("join-form").addEventListener("submit", (/** @type {Event} */ event) => { event.preventDefault(); joinForm(); });
$("peer").addEventListener("input", () => { madeUp = false; });
for (const id of ["room", "peer"]) $(id).addEventListener("input", showJoin);
$("again").addEventListener("click", () => enter({ room: $("room").value, peer: $("peer").value }));
$("camera-toggle").addEventListener("click", () => (source ? stopCamera() : startCamera()));
setInterval(countDown, 500);
setInterval(showPeers, 15_000); // "here for 3 min" grows
addEventListener("pagehide", () => beckon?.close());
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

const asked = address.searchParams;
try { $("token").value = sessionStorage.getItem("beckon.token") ?? ""; } catch { /* not remembered */ }
madeUp = !asked.get("peer");
$("room").value = asked.get("room") || recentRooms()[0] || "garage";
$("peer").value = asked.get("peer") || friendlyName();
$("test-picture").checked = asked.get("camera") === "test";
remember();
for (const peer of asked.getAll("watch")) watch(peer);
if (asked.get("camera")) await startCamera();
enter({ room: $("room").value, peer: $("peer").value });
