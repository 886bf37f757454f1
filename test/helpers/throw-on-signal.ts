/** Loaded into a service: SIGUSR2 is two errors that nobody handles, the second while the first ends the service. */
process.on('SIGUSR2', () => {
  setImmediate(() => {
    throw new Error('unforeseen')
  })
  throw new Error('unforeseen')
})
