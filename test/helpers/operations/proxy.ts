import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'undici'
import { vi } from 'vitest'
import { freePort } from '../free-port.ts'
import { documented } from './document.ts'
import { versionOf } from './tools.ts'

export interface Proxy extends AsyncDisposable {
  url: string
  /** What its clients must trust, where it speaks TLS with a certificate of its own. */
  certificate?: string
  output(): string
}

export const NGINX = versionOf('nginx', '-v')
/** For a test's title. */
export const PROXY =
  NGINX === null ? 'a proxy that does as the documented nginx' : `nginx ${NGINX} as documented`
export const CADDY = versionOf('caddy', 'version')

/** The proxy that the document describes: nginx with the documented file, or where that is absent one that does the same. */
export function startProxy(ports: readonly [number, number]): Promise<Proxy> {
  return NGINX === null ? startForwarder(ports) : startNginx(ports)
}

/** Goes to the other port when the first attempt fails or is answered 503. */
async function startForwarder(ports: readonly [number, number]): Promise<Proxy> {
  const pools = ports.map((port) => new Pool(`http://127.0.0.1:${port}`, { connections: 256, pipelining: 0 }))
  let turn = 0
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Uint8Array[] = []
      for await (const chunk of request) chunks.push(Buffer.from(chunk))
      const body = Buffer.concat(chunks)
      const first = turn++ % pools.length
      let status = 502
      for (const pool of [...pools.slice(first), ...pools.slice(0, first)]) {
        try {
          const { method = 'GET', url: path = '/', headers } = request
          const signature = headers['x-signature']
          const answer = await pool.request({
            method,
            path,
            headers: signature === undefined ? {} : { 'x-signature': signature },
            body,
          })
          await answer.body.dump()
          status = answer.statusCode
          if (status !== 503) break
        } catch {
          // The other one, then.
        }
      }
      response.writeHead(status).end()
    })()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the forwarder has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    output: () => '',
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
      await Promise.all(pools.map((pool) => pool.destroy()))
    },
  }
}

/** With the documented file, but for ports, names and, unless asked for, TLS. */
export async function startNginx(
  [first, second]: readonly [number, number],
  { tls = false }: { tls?: boolean } = {},
): Promise<Proxy> {
  const folder = await mkdtemp(join(tmpdir(), 'nginx-'))
  await chmod(folder, 0o755)
  const port = await freePort()
  const certificate = join(folder, 'certificate.pem')
  const key = join(folder, 'key.pem')
  if (tls) makeCertificate(certificate, key)
  const documentedFile = documented('nginx', {
    '127.0.0.1:3000': `127.0.0.1:${first}`,
    '127.0.0.1:3001': `127.0.0.1:${second}`,
    'listen 443 ssl': `listen 127.0.0.1:${port}${tls ? ' ssl' : ''}`,
    // A busy test machine stands still for seconds. What is refused is to be seen, not what is slow.
    'proxy_connect_timeout 1s': 'proxy_connect_timeout 20s',
    'proxy_send_timeout 2s': 'proxy_send_timeout 20s',
    'proxy_read_timeout 2s': 'proxy_read_timeout 20s',
    'server_name chats.example.com': 'server_name localhost',
    '/etc/ssl/chats.example.com.pem': certificate,
    '/etc/ssl/private/chats.example.com.key': key,
  })
  const site = tls ? documentedFile : documentedFile.replaceAll(/^ *ssl_.*\n/gm, '')
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(folder, name)};`,
  )
  const file = join(folder, 'nginx.conf')
  await writeFile(
    file,
    `daemon off; pid ${join(folder, 'pid')}; error_log stderr warn;
    events { worker_connections 4096; }
    http { access_log off; ${temporary.join(' ')}
    ${site}}`,
  )
  // As the document says it was checked.
  execFileSync('nginx', ['-t', '-q', '-e', 'stderr', '-c', file], { stdio: 'pipe' })
  const child = spawn('nginx', ['-e', 'stderr', '-c', file], { stdio: ['ignore', 'pipe', 'pipe'] })
  const url = `${tls ? 'https' : 'http'}://localhost:${port}`
  return waitForProxy(child, port, { url, ...(tls ? { certificate } : {}) }, folder)
}

/** With the documented file, but for ports and names; it makes a certificate by itself. */
export async function startCaddy([first, second]: readonly [number, number]): Promise<Proxy> {
  const folder = await mkdtemp(join(tmpdir(), 'caddy-'))
  const port = await freePort()
  const site = documented('caddy', {
    'chats.example.com': `localhost:${port}`,
    '127.0.0.1:3000': `127.0.0.1:${first}`,
    '127.0.0.1:3001': `127.0.0.1:${second}`,
  })
  const file = join(folder, 'Caddyfile')
  await writeFile(
    file,
    `{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n\tlocal_certs\n}\n${site}`,
  )
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    XDG_DATA_HOME: folder,
    XDG_CONFIG_HOME: folder,
  }
  const child = spawn('caddy', ['run', '--config', file, '--adapter', 'caddyfile'], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const certificate = join(folder, 'caddy/pki/authorities/local/root.crt')
  return waitForProxy(child, port, { url: `https://localhost:${port}`, certificate }, folder)
}

async function waitForProxy(
  child: ChildProcess,
  port: number,
  address: Pick<Proxy, 'url' | 'certificate'>,
  folder: string,
): Promise<Proxy> {
  const closed = once(child, 'close')
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => (output += text))
  }
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await closed
    await rm(folder, { recursive: true, force: true })
  }
  try {
    // Any answer will do, also that it wants TLS.
    const ca = address.certificate === undefined ? [] : ['--cacert', address.certificate]
    await vi.waitFor(
      () =>
        execFileSync('curl', ['--silent', '--output', '/dev/null', ...ca, `${address.url}/`], {
          stdio: 'pipe',
        }),
      { timeout: 20_000, interval: 100 },
    )
  } catch (error) {
    await stop()
    throw new Error(`the proxy on port ${port} does not start:\n${output}`, { cause: error })
  }
  return { ...address, output: () => output, [Symbol.asyncDispose]: stop }
}

function makeCertificate(certificate: string, key: string): void {
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  const files = ['-keyout', key, '-out', certificate]
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...subject, ...files],
    {
      stdio: 'pipe',
    },
  )
}
