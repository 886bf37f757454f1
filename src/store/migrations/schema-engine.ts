import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { PrismaPg } from '@prisma/adapter-pg'
import {
  bindMigrationAwareSqlAdapterFactory,
  DriverAdapterError,
  type SqlDriverAdapter,
} from '@prisma/driver-adapter-utils'
import * as bindings from '@prisma/schema-engine-wasm/schema_engine_bg'
import { type ClientBase, DatabaseError, Pool } from 'pg'

export type SchemaEngine = bindings.SchemaEngine

export interface OpenSchemaEngine {
  engine: SchemaEngine
  close: () => Promise<void>
}

/**
 * Prisma's schema engine, connected to a database: the part of the Prisma CLI that applies migrations, as a library.
 * Close it: its advisory lock lives on its connection, and the next engine would wait 10 s for it and fail.
 */
export async function openSchemaEngine(databaseUrl: string): Promise<OpenSchemaEngine> {
  const { SchemaEngine: Engine } = await loadBindings()
  // One connection, because the engine's lock belongs to one. The pool is ours: the engine does not end its own.
  const pool = new Pool({
    connectionString: databaseUrl,
    application_name: 'kommo-sync migrate',
    connectionTimeoutMillis: 10_000,
    max: 1,
    // oxlint-disable-next-line typescript/no-misused-promises -- the pool waits for it, its types do not say so
    onConnect: endWithUs,
  })
  // The error itself reaches whoever uses the connection; without a listener it would end the process.
  pool.on('error', () => {})
  try {
    const engine = await Engine.new({ datamodels: undefined }, () => {}, adapterFactory(pool))
    return {
      engine,
      async close() {
        engine.free()
        await pool.end()
      },
    }
  } catch (error) {
    await pool.end()
    throw error
  }
}

/**
 * Else the script of a process that was killed runs to its end, and is applied without being recorded. Not every system
 * under a server can tell that somebody is gone.
 */
async function endWithUs(client: ClientBase): Promise<void> {
  await client.query('SET client_connection_check_interval = 1000').catch(() => {})
}

/** No `schema` option here: with it the engine looks for its own table in the wrong place. */
function adapterFactory(pool: Pool) {
  const factory = new PrismaPg(pool)
  return bindMigrationAwareSqlAdapterFactory({
    provider: factory.provider,
    adapterName: factory.adapterName,
    connect: async () => withAtomicScripts(await factory.connect(), pool),
    connectToShadowDb: () => factory.connectToShadowDb(),
  })
}

/**
 * The adapter splits a script at every `;`, also inside quotes and function bodies, and runs the pieces one by one.
 * Sent as a whole it is one transaction, as with `prisma migrate deploy`: a migration that fails leaves nothing behind.
 */
function withAtomicScripts(adapter: SqlDriverAdapter, pool: Pool): SqlDriverAdapter {
  return Object.assign(adapter, {
    async executeScript(script: string) {
      try {
        await pool.query(script)
      } catch (error) {
        if (!(error instanceof DatabaseError)) throw error
        const { code = 'N/A', severity = 'N/A', message, detail, column, hint } = error
        throw new DriverAdapterError({ kind: 'postgres', code, severity, message, detail, column, hint })
      }
    },
  })
}

/** The part of Node's global that is used here; TypeScript has it only in the types of the browser. */
declare const WebAssembly: {
  instantiate(bytes: Uint8Array, imports: object): Promise<{ instance: { exports: Record<string, unknown> } }>
}

let loaded: Promise<typeof bindings> | undefined

/** Once a process. The package's own entry imports the `.wasm` file, which makes Node print a warning. */
function loadBindings(): Promise<typeof bindings> {
  loaded ??= instantiate()
  return loaded
}

declare global {
  /** Where Prisma's WebAssembly modules leave the message of a panic before they trap; Prisma's client makes one too. */
  var PRISMA_WASM_PANIC_REGISTRY: { set_message(message: string): void } | undefined
}

async function instantiate(): Promise<typeof bindings> {
  globalThis.PRISMA_WASM_PANIC_REGISTRY ??= {
    set_message(message) {
      throw new Error(`Prisma's schema engine panicked: ${message}`)
    },
  }
  const path = createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm/schema_engine_bg')
  const bytes = await readFile(path.replace(/\.js$/, '.wasm'))
  const { instance } = await WebAssembly.instantiate(bytes, { './schema_engine_bg.js': imports() })
  bindings.__wbg_set_wasm(instance.exports)
  const start = instance.exports['__wbindgen_start']
  if (typeof start === 'function') start()
  return bindings
}

/** The engine never clears the timer of its lock (10 s), which would keep a finished process from ending. */
function imports(): object {
  const timers = Object.keys(bindings).filter((name) => name.startsWith('__wbg_setTimeout_'))
  return { ...bindings, ...Object.fromEntries(timers.map((name) => [name, unreferenced])) }
}

function unreferenced(callback: () => void, ms: number): NodeJS.Timeout {
  return setTimeout(callback, ms).unref()
}
