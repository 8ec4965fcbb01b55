// The did:plc directory of npm @did-plc/server, in memory, on a port of the system's choice. Prints "PORT <number>".
import { createRequire } from 'node:module'
const plc = await import(createRequire(process.env.REF_DIR + '/package.json').resolve('@did-plc/server'))
const { PlcServer, Database } = plc.PlcServer ? plc : plc.default
const server = await PlcServer.create({ db: Database.mock(), port: 0 }).start()
console.log('PORT ' + server.address().port)
