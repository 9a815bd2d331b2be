// Debian packages as files: which version the archive offers, and unpacking one without installing it or being root.
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'

/** The versions that apt would install, by package name. Throws when apt's lists do not know one of them. */
export async function candidateVersions(names: readonly string[]): Promise<Map<string, string>> {
  const { stdout } = await execa('apt-cache', ['policy', ...names], { env: { LC_ALL: 'C' } })
  const found = stdout.matchAll(/^(\S+):\n {2}Installed: .*\n {2}Candidate: (\S+)/gm)
  const versions = new Map(Array.from(found, ([, name = '', version = '']) => [name, version]))
  const unknown = names.filter((name) => (versions.get(name) ?? '(none)') === '(none)')
  if (unknown.length > 0) throw new Error(`apt knows no package ${unknown.join(', ')}; run 'apt-get update' first`)
  return versions
}

/** The kernel package that linux-image-amd64 stands for now, such as linux-image-6.1.0-56-amd64. */
export async function kernelPackage(): Promise<string> {
  const { stdout } = await execa('apt-cache', ['depends', 'linux-image-amd64'], { env: { LC_ALL: 'C' } })
  const name = /Depends: (linux-image-\S+)/.exec(stdout)?.[1]
  if (name === undefined) throw new Error("apt knows no linux-image-amd64; run 'apt-get update' first")
  return name
}

/**
 * Unpacks the package's files into `folder`. The exact version is named: apt takes a bare name with characters such as
 * `+` or `*` as a pattern and would fetch every match.
 */
export async function unpackPackage(name: string, version: string, folder: string): Promise<void> {
  const download = await mkdtemp(join(tmpdir(), 'hades-deb-'))
  try {
    await execa('apt-get', ['download', `${name}=${version}`], { cwd: download, timeout: 300_000 })
    const [file] = await readdir(download)
    if (file === undefined) throw new Error(`apt-get download ${name}=${version} left no file`)
    await execa('dpkg', ['-x', join(download, file), folder])
  } finally {
    await rm(download, { recursive: true, force: true })
  }
}
