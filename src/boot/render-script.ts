// The script of one host, written for the loader that asks.
import { grubScript } from './grub-script.ts'
import { ipxeScript } from './ipxe-script.ts'
import { pxelinuxScript } from './pxelinux-script.ts'
import { type BootScript, checkScript, type ScriptLoader } from './scripts.ts'

const writers: Readonly<Record<ScriptLoader, (script: BootScript) => string[]>> = {
  pxelinux: pxelinuxScript,
  ipxe: ipxeScript,
  grub: grubScript,
}

/** The script of one host for this loader. Throws Failure `bad-input` for a value that no script may contain. */
export function renderScript(loader: ScriptLoader, script: BootScript): string {
  checkScript(script)
  return `${writers[loader](script).join('\n')}\n`
}
