// The WHEP client of the standards' authors, for what examples/whep-player does not
// do: an ICE restart.
import { WHEPClient } from 'whip-whep/whep.js'

const endpoint = new URLSearchParams(location.search).get('endpoint')
const video = document.querySelector('video')
const pc = (window.pc = new RTCPeerConnection())
pc.addTransceiver('video', { direction: 'recvonly' })
pc.addTransceiver('audio', { direction: 'recvonly' })
pc.ontrack = ({ track, streams }) => {
  if (track.kind === 'video') video.srcObject = streams[0]
}
window.client = new WHEPClient()
window.client.view(pc, endpoint)
