// What makes a copy of an image a system of its own: name, network, keys, file-system table, boot entries, scripts. Plain
// data; the agent does it on the host's disk, never on the image.

export const networkModes = ['keep', 'dhcp', 'static'] as const
export type NetworkMode = (typeof networkModes)[number]

export const scriptPlaces = ['chroot', 'scout'] as const
export type ScriptPlace = (typeof scriptPlaces)[number]

export type PostInstallScript = {
  readonly name: string
  readonly where: ScriptPlace
  readonly timeoutMs: number
  /** The script itself, or its name in the library. */
  readonly text?: string | undefined
  readonly library?: string | undefined
  /** Its text is a template. */
  readonly isTemplate?: boolean | undefined
}

export type AuthorizedKey = { readonly user: string; readonly key: string }

/** Templates: `{{host}}`, `{{ip}}` and the like are the host's. */
export type CloudInit = {
  readonly userData: string
  readonly metaData?: string | undefined
  readonly networkConfig?: string | undefined
}

export type PostInstall = {
  /** The place of the root file system; undefined: the one that is mounted at `/`, or the only one that looks like a root. */
  readonly root?: string | undefined
  /** A template, or undefined to leave the name as it is. */
  readonly hostname?: string | undefined
  readonly network: {
    readonly mode: NetworkMode
    readonly prefixLength?: number | undefined
    readonly gateway?: string | undefined
    readonly dns: readonly string[]
  }
  readonly newHostKeys: boolean
  readonly newMachineId: boolean
  readonly authorizedKeys: readonly AuthorizedKey[]
  readonly writeFstab: boolean
  /** The last partition and its file system take what is free behind them. */
  readonly growLast: boolean
  readonly installBootLoader: boolean
  readonly cloudInit?: CloudInit | undefined
  readonly scripts: readonly PostInstallScript[]
}
