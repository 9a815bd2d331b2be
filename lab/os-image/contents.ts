// What is in the demo image: Debian packages, what of them is left out, and the units that do not start. Each choice makes
// an emulated machine boot faster or its image smaller; the system stays an ordinary Debian with apt.

export const suite = 'bookworm'

export const packages = [
  'systemd',
  'systemd-sysv',
  'udev',
  'acpid',
  'openssh-server',
  'iproute2',
  'busybox-static',
  // Its image is compressed by LZ4, the fastest to unpack under emulation, and it has few drivers.
  'linux-image-cloud-amd64',
]

/** Boot loaders: unpacked for the image, not installed in it. */
export const loaderPackages = ['shim-signed', 'grub-efi-amd64-signed', 'grub-pc-bin']

/** Files of packages that are not installed (dpkg's path-exclude). */
export const excludedPaths = [
  '/usr/share/doc/*',
  '/usr/share/man/*',
  '/usr/share/info/*',
  '/usr/share/locale/*',
  '/usr/share/bash-completion/*',
  '/usr/lib/x86_64-linux-gnu/gconv/*',
  '/usr/lib/udev/hwdb.d/*',
  '/lib/udev/hwdb.d/*',
]

/** Drivers that the initial RAM disk loads, in this order, each after what it depends on. */
export const initrdModules = ['virtio_pci', 'virtio_blk', 'sd_mod', 'virtio_scsi']

/** Kernel arguments beside root and console. Emulated processors leak nothing that `mitigations` could keep. */
export const kernelArguments = ['mitigations=off', 'audit=0', 'rcupdate.rcu_expedited=1']

/** Units that never start: timers, file systems nobody mounts, first-boot work that the image has behind it. */
export const maskedUnits = [
  'apt-daily.timer',
  'apt-daily-upgrade.timer',
  'dpkg-db-backup.timer',
  'e2scrub_all.timer',
  'e2scrub_reap.service',
  'fstrim.timer',
  'systemd-tmpfiles-clean.timer',
  'systemd-tmpfiles-setup.service',
  'systemd-tmpfiles-setup-dev.service',
  // No D-Bus, so no logind; acpid heeds the power button.
  'systemd-logind.service',
  'systemd-user-sessions.service',
  'systemd-update-utmp.service',
  'systemd-update-utmp-runlevel.service',
  'systemd-random-seed.service',
  'systemd-firstboot.service',
  'systemd-sysusers.service',
  'systemd-sysctl.service',
  'systemd-modules-load.service',
  'systemd-binfmt.service',
  'systemd-repart.service',
  'systemd-pstore.service',
  'systemd-remount-fs.service',
  'systemd-boot-system-token.service',
  'systemd-journal-flush.service',
  'systemd-journal-catalog-update.service',
  'systemd-hwdb-update.service',
  'systemd-update-done.service',
  'systemd-pcrphase.service',
  'systemd-pcrphase-sysinit.service',
  'systemd-ask-password-console.path',
  'systemd-ask-password-wall.path',
  'systemd-initctl.socket',
  'systemd-networkd-wait-online.service',
  'systemd-networkd-persistent-storage.service',
  'systemd-network-generator.service',
  'ldconfig.service',
  'kmod-static-nodes.service',
  'modprobe@.service',
  'getty-static.service',
  'autovt@.service',
  'getty@tty1.service',
  'console-getty.service',
  'proc-sys-fs-binfmt_misc.automount',
  'dev-hugepages.mount',
  'dev-mqueue.mount',
  'sys-fs-fuse-connections.mount',
  'sys-kernel-config.mount',
  'sys-kernel-debug.mount',
  'sys-kernel-tracing.mount',
  'cryptsetup.target',
  'integritysetup.target',
  'veritysetup.target',
  'remote-fs.target',
]

/** Generators that never run: each is a program to start before the first unit. The one that reads fstab stays. */
export const maskedGenerators = [
  'cryptsetup',
  'debug',
  'getty',
  'gpt-auto',
  'hibernate-resume',
  'integritysetup',
  'rc-local',
  'run',
  'system-update',
  'sysv',
  'veritysetup',
].map((name) => `systemd-${name}-generator`)
