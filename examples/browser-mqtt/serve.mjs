// Serves this page, and nothing else, to this machine: npm start [-- PORT].
// A page needs a web server because a browser loads no modules from files. Any
// will do.
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'

const port = Number(process.argv[2] ?? 8000) // 0: any free one
if (!Number.isInteger(port) || port < 0 || port > 65535) {
  console.error(`serve: ${process.argv[2]} is not a port`)
  process.exit(2)
}

const html = 'text/html; charset=utf-8'
const script = 'text/javascript; charset=utf-8'
const files = {
  '/': ['index.html', html],
  '/index.html': ['index.html', html],
  '/viewer.js': ['viewer.js', script],
  '/mqtt.js': ['node_modules/mqtt/dist/mqtt.esm.js', script],
}

const server = createServer(async (request, response) => {
  const pathname = request.url.split('?', 1)[0] // of what is no URL, too
  const file = Object.hasOwn(files, pathname) ? files[pathname] : undefined
  if (!file || !['GET', 'HEAD'].includes(request.method)) {
    response.writeHead(404).end('not here\n')
    return
  }
  try {
    const body = await readFile(new URL(file[0], import.meta.url))
    response.writeHead(200, { 'Content-Type': file[1], 'Cache-Control': 'no-cache' })
    response.end(request.method === 'HEAD' ? undefined : body)
  } catch (error) {
    response.writeHead(500).end(`${error.message}\n`)
  }
})
server.on('error', (error) => {
  console.error(`serve: ${error.message} (another port: npm start -- 8001)`)
  process.exit(1)
})
server.listen(port, '127.0.0.1', () => {
  console.log(`the page is at http://127.0.0.1:${server.address().port}/`)
})
