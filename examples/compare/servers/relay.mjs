// The least that signaling takes: every frame goes to all others in the room, which
// is the path of the URL. node relay.mjs PORT
import { WebSocketServer } from 'ws'

const rooms = new Map()

new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]) }).on('connection', (socket, request) => {
  const room = rooms.get(request.url) ?? new Set()
  rooms.set(request.url, room.add(socket))
  socket.on('message', (data, isBinary) => {
    for (const other of room) {
      if (other !== socket) other.send(data, { binary: isBinary })
    }
  })
  socket.on('error', () => {}) // it closes, too
  socket.on('close', () => {
    room.delete(socket)
    if (room.size === 0) rooms.delete(request.url)
  })
})
