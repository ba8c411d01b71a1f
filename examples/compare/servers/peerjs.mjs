// The PeerJS server, as it is. node peerjs.mjs PORT
import { PeerServer } from 'peer'

PeerServer({ host: '127.0.0.1', port: Number(process.argv[2]), concurrent_limit: 100_000 })
