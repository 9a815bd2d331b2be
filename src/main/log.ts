// The log: one JSON object a line on standard error, its level as a word, its time in UTC. Messages name `host` and `deployment`
// where they are about one, and `request` where a caller was told that number.
import { type Logger, pino } from 'pino'

/** A logger of the process; secrets that get into an object by mistake show as [Redacted]. */
export function openLog(level: string): Logger {
  const secrets = ['password', 'token', 'secret', 'authorization']
  return pino(
    {
      level,
      redact: secrets.flatMap((name) => [name, `*.${name}`]),
      formatters: { level: (label) => ({ level: label }) },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    pino.destination(2),
  )
}
