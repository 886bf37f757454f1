import packageJson from '../package.json' with { type: 'json' }

/** Of kommo-sync, as it is released. */
export const VERSION = packageJson.version
