// A player with a standard WHEP client: nothing on this page knows what server it
// talks to. The client is that of the standard's authors, as npm has it.
import { WHEPClient } from './whep.js'

const query = new URLSearchParams(location.search)
const endpoint = query.get('endpoint') ?? 'http://127.0.0.1:8080/whep/garage/cam1'
const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? undefined
const again = 3_000 // ms until the next try

const video = document.getElementById('video')
const caption = document.getElementById('status')
const button = document.getElementById('button')
document.getElementById('where').textContent = endpoint

function show(state, text) {
  caption.dataset.state = state
  caption.firstElementChild.textContent = text
  button.textContent = state === 'stopped' ? 'Play' : 'Stop'
}

let call = null // { pc, client }
let redial

async function play() {
  show('calling', 'calling')
  const pc = new RTCPeerConnection()
  const client = new WHEPClient()
  const mine = (call = { pc, client })
  const silent = () => {
    if (call === mine && pc.connectionState === 'disconnected') lost('the camera is silent')
  }
  pc.addTransceiver('video', { direction: 'recvonly' })
  pc.addTransceiver('audio', { direction: 'recvonly' })
  pc.addEventListener('track', ({ track, streams }) => {
    if (track.kind === 'video') video.srcObject = streams[0] ?? new MediaStream([track])
  })
  pc.addEventListener('connectionstatechange', () => {
    if (call !== mine) return
    if (pc.connectionState === 'failed') lost('the way to the camera is lost')
    if (pc.connectionState === 'disconnected') redial = setTimeout(silent, again)
  })
  try {
    await client.view(pc, endpoint, token)
    // A camera that ends shows here first, long before ICE gives up.
    const { transport } = pc.getReceivers()[0]
    transport.addEventListener('statechange', () => {
      if (call === mine && transport.state === 'closed') lost('the camera has ended the call')
    })
  } catch (error) {
    if (call === mine) lost(error.message)
  }
}

// hangUp ends the call; whoever was calling need not wait for the server.
function hangUp() {
  clearTimeout(redial)
  call?.client.stop().catch(() => {}) // closes pc, and says DELETE if there was an answer
  call = null
  video.srcObject = null
}

function lost(text) {
  hangUp()
  show('failed', text)
  redial = setTimeout(play, again)
}

button.addEventListener('click', () => {
  if (caption.dataset.state === 'stopped') return play()
  hangUp()
  show('stopped', 'stopped')
})

function live() {
  if (call && video.videoWidth) show('live', `live: ${video.videoWidth}×${video.videoHeight}`)
}
video.addEventListener('playing', live)
video.addEventListener('resize', live)

// A page that is closed has no time for the client's DELETE. keepalive has the
// browser send it all the same.
addEventListener('pagehide', () => {
  const session = call?.client.resourceURL
  if (session) fetch(session, { method: 'DELETE', keepalive: true })
})
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) location.reload() // back from the browser's cache of pages
})

play()
