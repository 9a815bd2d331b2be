// A netboot profile: what a host with the boot target `netboot:<name>` boots, a kernel or a program of its own a firmware.
// Its texts end up in scripts of three languages and in a kernel's command line, so each is held to the few characters
// that none of them gives a meaning to.
import { Failure } from './failure.ts'

export type NetbootProfile = {
  readonly name: string
  /** File of a Linux kernel, or of what starts like one, such as memtest86+; any firmware boots it. */
  readonly kernel?: string | undefined
  readonly initrds: readonly string[]
  /** The kernel's arguments, with `{{...}}` for what differs from host to host. */
  readonly arguments: string
  /** File of a PXE boot program that BIOS machines get instead of the kernel, such as `pxelinux.0`. */
  readonly biosProgram?: string | undefined
  /** File of an EFI program that UEFI machines get instead of the kernel. */
  readonly uefiProgram?: string | undefined
}

/** What may stand between `{{` and `}}`, and what it becomes. */
export const templateWords = {
  host: 'the name of the host',
  mac: 'the MAC address that it boots by, as 52:54:00:12:34:56',
  macDashes: 'the same as 52-54-00-12-34-56',
  ip: 'its address',
  service: 'the Service Port, as http://10.77.0.1:7780',
  bootUrl: 'the boot namespace, as http://10.77.0.1:7780/boot',
  filesUrl: 'the folder of the profile, as http://10.77.0.1:7780/boot/netboot/rescue',
  scoutArguments:
    'the arguments that the scout needs to come up without an agent, with the SSH key that `hades up` was given',
} as const
export type TemplateWord = keyof typeof templateWords
export type TemplateValues = Readonly<Record<TemplateWord, string | undefined>>

/** Linux on x86 takes 2048 bytes with the final NUL (COMMAND_LINE_SIZE); loaders add `initrd=` and `BOOT_IMAGE=`. */
export const kernelArgumentsMax = 1800
export const initrdsMax = 8
export const filePathMax = 190

/** One kernel argument, or several with blanks. No quote, no dollar, no semicolon, nothing below a blank. */
export const argumentPattern = /^[A-Za-z0-9 ._:/=,@+-]+$/
const filePattern = /^[A-Za-z0-9_][A-Za-z0-9._+-]*(\/[A-Za-z0-9_][A-Za-z0-9._+-]*)*$/
/** A file of the scout as it is built now, in place of a file of the profile's folder. */
const scoutFilePattern = /^\/scout\/[A-Za-z0-9_][A-Za-z0-9._-]*$/

/** Checks everything that can be checked without looking at the files. Failure `bad-input` names the field. */
export function checkProfile(profile: NetbootProfile): void {
  const { kernel, initrds, biosProgram, uefiProgram } = profile
  if (kernel === undefined && biosProgram === undefined && uefiProgram === undefined) {
    throw new Failure('bad-input', `profile ${profile.name} boots nothing: give it a kernel or a program`, {
      at: 'kernel',
    })
  }
  const needsKernel = initrds.length > 0 ? 'initrds' : profile.arguments === '' ? undefined : 'arguments'
  if (kernel === undefined && needsKernel !== undefined) {
    throw new Failure('bad-input', `\`${needsKernel}\` are for a kernel, and there is none`, { at: needsKernel })
  }
  for (const [at, file] of filesOf(profile)) {
    if (!isFilePath(file)) {
      const why = `${JSON.stringify(file)} is no file below the profile's folder: use letters, digits, "._+-" and "/"`
      throw new Failure('bad-input', why, { at })
    }
  }
  const names = initrds.map(baseName)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) {
    // A kernel under UEFI opens its initrds by name.
    throw new Failure('bad-input', `two initrds are called ${twice}: rename one`, { at: 'initrds' })
  }
  if (biosProgram !== undefined && !/\.(0|kpxe|pxe)$/.test(biosProgram)) {
    const why = `${biosProgram} is no PXE boot program (.0, .kpxe, .pxe); what starts like Linux, as memtest86+ does, is a kernel`
    throw new Failure('bad-input', why, { at: 'biosProgram' })
  }
  if (uefiProgram !== undefined && !uefiProgram.toLowerCase().endsWith('.efi')) {
    throw new Failure('bad-input', `${uefiProgram} is no EFI program (.efi)`, { at: 'uefiProgram' })
  }
  fillArguments(profile, longestValues)
}

/** The files that the profile names, each with the field that names it. */
export function filesOf(profile: NetbootProfile): [at: string, file: string][] {
  const { kernel, initrds, biosProgram, uefiProgram } = profile
  const single = Object.entries({ kernel, biosProgram, uefiProgram })
  return [
    ...single.flatMap(([at, file]): [string, string][] => (file === undefined ? [] : [[at, file]])),
    ...initrds.map((file, index): [string, string] => [`initrds[${index}]`, file]),
  ]
}

/** The last part of a path. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function isFilePath(file: string): boolean {
  return file.length <= filePathMax && (filePattern.test(file) || scoutFilePattern.test(file))
}

/** Where the boot namespace has a file of the profile. */
export function bootPathOf(profileName: string, file: string): string {
  return file.startsWith('/') ? file.slice(1) : `netboot/${profileName}/${file}`
}

/** Values as long as they can be: what fits with them fits for every host. */
const longestValues: TemplateValues = {
  host: 'n'.repeat(63),
  mac: '52:54:00:12:34:56',
  macDashes: '52-54-00-12-34-56',
  ip: '255.255.255.255',
  service: 'http://255.255.255.255:65535',
  bootUrl: 'http://255.255.255.255:65535/boot',
  filesUrl: `http://255.255.255.255:65535/boot/netboot/${'p'.repeat(63)}`,
  scoutArguments: 's'.repeat(1000),
}

/**
 * The kernel's arguments for one host, one string a word. Failure `bad-input` when a word is not known or has no value
 * here, when a character may not stand in a script, or when it is too long.
 */
export function fillArguments(profile: Pick<NetbootProfile, 'name' | 'arguments'>, values: TemplateValues): string[] {
  const refuse = (why: string): never => {
    throw new Failure('bad-input', `the arguments of profile ${profile.name}: ${why}`, { at: 'arguments' })
  }
  const filled = profile.arguments.replace(/\{\{(.*?)\}\}/g, (_, inside: string) => {
    const word = inside.trim()
    if (!Object.hasOwn(templateWords, word)) {
      const known = Object.keys(templateWords).join(', ')
      return refuse(`{{${word.slice(0, 40)}}} is not known: there are ${known}`)
    }
    // The line above has looked: it is one of the words.
    return values[word as TemplateWord] ?? refuse(`the host has no value for {{${word}}}`)
  })
  const words = filled.split(' ').filter((word) => word !== '')
  const wrong = words.find((word) => !argumentPattern.test(word))
  // The value is not shown: it may be a password of an installer.
  if (wrong !== undefined) {
    refuse(
      `${JSON.stringify(wrong.split('=')[0]?.slice(0, 60))} has a character other than letters, digits, "._:/=,@+-"`,
    )
  }
  const length = words.join(' ').length
  if (length > kernelArgumentsMax) refuse(`${length} characters, ${kernelArgumentsMax} are allowed`)
  return words
}
