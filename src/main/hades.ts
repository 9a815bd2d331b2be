// The program `hades`: the client commands, and those that start services.
import { buildProgram, run } from '../cli/program.ts'
import { version } from '../operations/version.ts'
import { addServices } from './services.ts'

process.exitCode = await run(buildProgram(version, addServices), process.argv.slice(2))
