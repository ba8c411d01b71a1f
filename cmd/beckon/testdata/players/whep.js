// The WHEP player as its own README has it, without its default STUN server.
import { WebRTCPlayer } from '@eyevinn/webrtc-player'

const endpoint = new URLSearchParams(location.search).get('endpoint')
const video = document.querySelector('video')
window.player = new WebRTCPlayer({ video, type: 'whep', iceServers: [] })
window.player.load(new URL(endpoint)).then(() => video.play())
