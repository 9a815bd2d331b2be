// What a new system says of itself: one script, run in it over SSH, and its answer as data. Tests compare it with the setup.
/** What lies on a disk, partition, array or volume, as blkid of the new system reads it. */
export type SeenDevice = {
  readonly size: number
  readonly type: string
  readonly label: string
  readonly uuid: string
  /** Name and type of the partition in its table. */
  readonly name: string
  readonly kind: string
  /** Where it is mounted. */
  readonly at: string
  readonly options: string
}

export type SeenSystem = {
  readonly devices: Readonly<Record<string, SeenDevice>>
  readonly firmware: string
  readonly hostname: string
  /** What `/etc/hostname` has. */
  readonly ownName: string
  readonly machineId: string
  /** Fingerprint of its Ed25519 host key. */
  readonly hostKey: string
  readonly rootBytes: number
  /** Devices that it swaps to. */
  readonly swaps: readonly string[]
  /** `what where` of each row of its fstab. */
  readonly fstab: readonly string[]
  /** Arrays of /proc/mdstat: level and which members are there, as `raid1 [UU]`. */
  readonly arrays: readonly string[]
}

/** Prints `key value` lines; a line `device PATH NUMBER SIZE` begins what blkid says of one. */
export const lookScript = `
lsblk --bytes --list --noheadings --paths --output NAME,MAJ:MIN,SIZE | while read -r device number size; do
  echo "device $device $number $size"
  blkid -p -o export "$device"
done
findmnt --real --noheadings --raw --output MAJ:MIN,TARGET,OPTIONS | sed 's/^/mount /'
swapon --noheadings --show=NAME | sed 's/^/swap /'
[ -d /sys/firmware/efi ] && echo firmware uefi || echo firmware bios
echo "hostname $(hostname)"
echo "ownName $(cat /etc/hostname)"
echo "machineId $(cat /etc/machine-id)"
echo "hostKey $(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)"
echo "rootBytes $(df --output=size -B1 / | tail -n 1)"
sed -n 's/^\\([^# ][^ ]*\\) \\([^ ]*\\) .*/fstab \\1 \\2/p' /etc/fstab
tr '\\n' ' ' </proc/mdstat 2>/dev/null | grep -o 'raid[0-9]* \\|\\[U*_*U*\\]' | paste -d ' ' - - | sed 's/^/array /'
true`

/** Reads what the script printed. Throws an Error when a line is none of its own. */
export function readLook(text: string): SeenSystem {
  const devices: Record<string, Record<string, string>> = {}
  const facts: Record<string, string[]> = {}
  let device: Record<string, string> = {}
  for (const line of text.split('\n').filter((line) => line.trim() !== '')) {
    const [, tag, value = ''] = /^([A-Z0-9_]+)=(.*)$/.exec(line) ?? []
    if (tag !== undefined) {
      // blkid escapes for a shell.
      device[tag] = value.replaceAll(/\\(.)/g, '$1')
      continue
    }
    const [, key = '', rest = ''] = /^([a-zA-Z]+) ?(.*)$/.exec(line) ?? []
    if (key === '') throw new Error(`the new system said \`${line}\``)
    if (key !== 'device') facts[key] = [...(facts[key] ?? []), rest.trim()]
    else {
      const [path = '', number = '', size = ''] = rest.split(' ')
      // The number of the device: the kernel may call what it mounted by another name.
      device = { number, size }
      devices[path] = device
    }
  }
  const mounts = (facts.mount ?? []).map((row) => row.split(' '))
  const one = (key: string) => facts[key]?.[0] ?? ''
  return {
    devices: Object.fromEntries(
      Object.entries(devices).map(([path, tags]) => {
        const [, at = '', options = ''] = mounts.find(([number]) => number === tags.number) ?? []
        return [path, seenDevice(tags, at, options)]
      }),
    ),
    firmware: one('firmware'),
    hostname: one('hostname'),
    ownName: one('ownName'),
    machineId: one('machineId'),
    hostKey: one('hostKey'),
    rootBytes: Number(one('rootBytes')),
    swaps: facts.swap ?? [],
    fstab: facts.fstab ?? [],
    arrays: (facts.array ?? []).map((row) => row.replaceAll(/\s+/g, ' ')),
  }
}

function seenDevice(tags: Readonly<Record<string, string>>, at: string, options: string): SeenDevice {
  return {
    size: Number(tags.size),
    type: tags.TYPE ?? '',
    label: tags.LABEL ?? '',
    uuid: tags.UUID ?? '',
    name: tags.PART_ENTRY_NAME ?? '',
    kind: tags.PART_ENTRY_TYPE ?? '',
    at,
    options,
  }
}
