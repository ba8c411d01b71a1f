// A viewer that speaks plain MQTT from a browser. All it needs to know of the
// signaling protocol is on this page:
//
//   rtc/v1/{room}/to/{me}/+        I subscribe: what anyone says to me
//   rtc/v1/{room}/to/{camera}/{me} I publish: what I say to the camera
//   rtc/v1/{room}/peers/+          who is there (retained)
import mqtt from './mqtt.js'

const query = new URLSearchParams(location.search)
const broker = query.get('broker') ?? 'ws://127.0.0.1:8080/mqtt'
const room = query.get('room') ?? 'garage'
const camera = query.get('camera') ?? 'cam1'
const me = query.get('peer') ?? 'bob'
const version = Number(query.get('v') ?? 5) // of MQTT: 4 is 3.1.1, 5 is 5
const password = new URLSearchParams(location.hash.slice(1)).get('password') ?? undefined

const base = `rtc/v1/${room}`
const setupLimit = 15_000 // ms until a call without a picture is given up
const again = 3_000 // ms until the next try

// ---- what one sees

const video = document.getElementById('video')
const caption = document.getElementById('status')
document.getElementById('title').textContent = camera
document.getElementById('where').textContent = `${me} in ${room}, on ${broker}`

function show(state, text) {
  caption.dataset.state = state
  caption.textContent = text
}

const peers = new Map() // name to presence

function showPeers() {
  const rows = [...peers].sort().map(([name, p]) => {
    const row = document.createElement('li')
    row.className = p.online ? 'online' : 'offline'
    row.dataset.peer = name
    const title = document.createElement('b')
    title.textContent = p.name ? `${p.name} (${name})` : name
    const rest = document.createElement('span')
    rest.textContent = [p.role, p.online ? p.via && `by ${p.via}` : 'offline'].filter(Boolean).join(', ')
    row.append(title, rest)
    return row
  })
  document.getElementById('peers').replaceChildren(...rows)
  document.getElementById('title').textContent = peers.get(camera)?.name ?? camera
}

// ---- MQTT

const client = mqtt.connect(broker, {
  protocolVersion: version,
  clientId: me,
  username: me,
  password,
  clean: true, // what waits for us waits in the room, not in a session
  keepalive: 30,
  reconnectPeriod: 2_000,
  resubscribe: false, // enter() does it, in the order that matters
})

client.on('connect', enter)
client.on('message', (topic, payload) => {
  const levels = topic.slice(base.length + 1).split('/')
  if (levels[0] === 'peers') presence(levels[1], payload.toString())
  else inbox(levels[2], payload.toString())
})
client.on('close', () => {
  if (caption.dataset.state !== 'live' && caption.dataset.state !== 'refused') {
    show('connecting', 'no connection to the broker; trying again')
  }
})
client.on('error', ({ code, message }) => {
  // A CONNACK that says who we are is wrong: trying again would change nothing.
  if ([2, 4, 5, 0x85, 0x86, 0x87].includes(code)) refuse(`the broker refuses ${me}: ${message}`)
})
client.on('disconnect', ({ reasonCode }) => {
  if (reasonCode === 0x8e) refuse(`somebody else is connected as ${me} now`)
})

// First the inbox, then presence: whoever sees us can talk to us.
async function enter() {
  try {
    await subscribe(`${base}/to/${me}/+`)
  } catch (error) {
    if (client.connected) refuse(`${me} may not be in ${room}: ${error.message}`)
    return
  }
  peers.clear() // what is true now comes with the subscription
  showPeers()
  publish(`${base}/peers/${me}`, { online: true, role: 'viewer' }, { retain: true })
  if (!call) show('offline', `${camera} is not in ${room}`) // until presence says more
  // Someone who may only watch one camera is not told about the others.
  await subscribe(`${base}/peers/+`).catch(() => subscribe(`${base}/peers/${camera}`)).catch(() => {})
}

// MQTT.js tells some refusals by an error and some by the granted QoS.
async function subscribe(filter) {
  for (const granted of await client.subscribeAsync(filter, { qos: 1 })) {
    if (granted.qos > 2) throw new Error(`not allowed to subscribe to ${filter}`)
  }
}

function publish(topic, message, options) {
  client.publish(topic, JSON.stringify(message), { qos: 1, ...options })
}

// MQTT 5 has the reason in the acknowledgement too, and MQTT.js reports it as
// an error of the publish; the same comes into the inbox, for every version.
function say(message) {
  publish(`${base}/to/${camera}/${me}`, message)
}

// refuse gives up for good: a person has to change something.
function refuse(text) {
  hangUp()
  client.end()
  show('refused', text)
}

// ---- who is there

function presence(name, text) {
  const now = parse(text) // empty: gone
  if (now) peers.set(name, now)
  else peers.delete(name)
  showPeers()
  if (name !== camera) return

  if (connected()) {
    // A picture outlives the camera's signaling, but perhaps this is the word of
    // a camera that was switched off and on. ICE will tell.
    call.gone = true
  } else if (now?.online) {
    if (!call || call.gone || call.pc.connectionState === 'disconnected') dial()
  } else {
    drop()
    show('offline', `${camera} is offline`)
  }
}

function parse(text) {
  try {
    const value = JSON.parse(text)
    return typeof value === 'object' ? value : null
  } catch {
    return null
  }
}

// ---- the call

let call = null // { session, pc, early: candidates, timer, gone: the camera's signaling was lost }
let iceServers = []
let redial

const connected = () => call?.pc.connectionState === 'connected'

function dial() {
  drop()
  if (!client.connected || !peers.get(camera)?.online) return
  show('calling', `calling ${camera}`)

  const pc = new RTCPeerConnection({ iceServers })
  const session = Math.random().toString(36).slice(2, 12)
  const timer = setTimeout(() => lost(`${camera} does not answer`), setupLimit)
  const mine = (call = { session, pc, early: [], timer })

  pc.onicecandidate = ({ candidate }) => {
    if (!trickles()) return
    // null and "" both say that there are no more; the wire has only "".
    const more = Boolean(candidate?.candidate)
    if (more) say({ type: 'candidate', session, ...candidate.toJSON() })
    else if (!mine.allSaid) say({ type: 'candidate', session, candidate: '' })
    mine.allSaid = !more
  }
  pc.ontrack = ({ track, streams }) => {
    video.srcObject = streams[0] ?? new MediaStream([track])
  }
  pc.onconnectionstatechange = () => {
    if (call !== mine) return
    if (pc.connectionState === 'failed') lost(`the way to ${camera} is lost`)
    else if (pc.connectionState === 'disconnected' && mine.gone) comeBack()
    else if (pc.connectionState === 'disconnected') {
      show('calling', `${camera} is silent at the moment`)
      mine.timer = setTimeout(comeBack, again)
    }
    if (pc.connectionState === 'connected') {
      live()
      // A camera that closes its end without a bye shows here first.
      const { transport } = pc.getReceivers()[0]
      transport.onstatechange = () => {
        if (call === mine && transport.state === 'closed') comeBack()
      }
    }
  }

  if (peers.get(camera).offers) {
    say({ type: 'start', session, video: 'recvonly' })
  } else {
    pc.addTransceiver('video', { direction: 'recvonly' })
    describe(mine).catch(unusable)
  }
}

const trickles = () => peers.get(camera)?.trickle !== false

// describe sets and sends our offer or answer; to a camera that does not
// trickle only when all candidates are in it.
async function describe({ pc, session }) {
  await pc.setLocalDescription()
  if (!trickles()) {
    while (pc.iceGatheringState !== 'complete') {
      await new Promise((done) => pc.addEventListener('icegatheringstatechange', done, { once: true }))
    }
  }
  if (call?.pc === pc) say({ ...pc.localDescription.toJSON(), session })
}

// Messages wait for the one before them, as each may take WebRTC a moment.
let before = Promise.resolve()

function inbox(from, text) {
  const message = parse(text)
  if (!message) return
  before = before.then(() => (from === '_' ? fromServer(message) : from === camera && fromCamera(message)))
    .catch(unusable)
}

async function fromCamera(message) {
  if (!call || message.session !== call.session) return
  const { pc, early } = call
  switch (message.type) {
    case 'offer':
    case 'answer':
      await pc.setRemoteDescription(message)
      for (const candidate of early.splice(0)) await pc.addIceCandidate(candidate)
      if (message.type === 'offer') await describe(call)
      break
    case 'candidate':
      if (pc.remoteDescription) await pc.addIceCandidate(message)
      else early.push(message)
      break
    case 'bye':
      // "gone": its signaling is lost. A picture that flows may go on flowing.
      call.gone = message.reason === 'gone'
      if (call.gone && connected()) break
      drop() // before lost, which would answer with a bye
      if (message.reason === 'busy' || message.reason === 'failed') lost(`${camera} says: ${message.reason}`)
      else show('offline', message.reason === 'gone' ? `${camera} is gone` : `${camera} hung up`)
  }
}

function fromServer(message) {
  if (message.type === 'hello' || message.type === 'ice') iceServers = message.iceServers ?? []
  if (message.type === 'error') told(message)
}

// told takes the server's word that something did not arrive.
function told(error) {
  const ours = error.session !== undefined && error.session === call?.session
  if (error.code === 409) {
    drop() // the call is not ours to end any more
    refuse(`somebody else is in ${room} as ${me} now`)
  } else if (error.session !== undefined && !ours) {
    // about a call that is over
  } else if (error.code === 401 || error.code === 403) {
    refuse(inWords(error))
  } else if (!ours || connected()) {
    console.warn(inWords(error)) // a picture that flows may go on flowing
  } else if (error.code === 404 || error.code === 480) {
    drop() // presence calls again
    show('offline', inWords(error))
  } else {
    lost(inWords(error), error.temporary ? (error.retryAfter ?? 0) * 1000 : Infinity)
  }
}

const inWords = ({ message, reason, code }) => `${message ?? reason} (${code})`

function live() {
  if (!connected() || video.paused || !video.videoWidth) return
  clearTimeout(call.timer)
  show('live', `live: ${video.videoWidth}×${video.videoHeight}`)
}
video.addEventListener('playing', live)
video.addEventListener('resize', live)

// comeBack follows a camera that is no longer where it was.
function comeBack() {
  hangUp()
  if (peers.get(camera)?.online) dial()
  else show('offline', `${camera} is gone`)
}

// lost ends a call that came to nothing, and tries again.
function lost(text, wait = 0) {
  hangUp()
  show('failed', text)
  if (Number.isFinite(wait)) redial = setTimeout(dial, Math.max(wait, again))
}

function unusable(error) {
  console.error(error)
  lost(`what ${camera} says cannot be used: ${error.message}`)
}

function hangUp() {
  if (call && client.connected) say({ type: 'bye', session: call.session, reason: 'hangup' })
  drop()
}

// drop forgets the call without a word.
function drop() {
  clearTimeout(redial)
  if (!call) return
  clearTimeout(call.timer)
  call.pc.onconnectionstatechange = call.pc.onicecandidate = call.pc.ontrack = null
  call.pc.close()
  call = null
  video.srcObject = null
}

// ---- the end

addEventListener('pagehide', () => {
  const topic = `${base}/to/${camera}/${me}`
  // QoS 0: there is nobody left to wait for an acknowledgement.
  if (call) client.publish(topic, JSON.stringify({ type: 'bye', session: call.session, reason: 'hangup' }))
  client.publish(`${base}/peers/${me}`, '', { retain: true })
  client.end() // says DISCONNECT
  // MQTT.js gathers what it writes until the page's next turn, and this page
  // has none.
  while (client.stream.writableCorked) client.stream.uncork()
  drop()
})
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) location.reload() // back from the browser's cache of pages
})
