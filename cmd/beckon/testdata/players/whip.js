// The WHIP client as its own README has it, without its default STUN server.
import { WHIPClient } from '@eyevinn/whip-web-client'

const endpoint = new URLSearchParams(location.search).get('endpoint')
const video = document.querySelector('video')
window.client = new WHIPClient({ endpoint, opts: { iceServers: [] } })
window.published = navigator.mediaDevices.getUserMedia({ video: true, audio: true }).then((media) => {
  video.srcObject = media
  return window.client.ingest(media)
}).then(() => 'published')
