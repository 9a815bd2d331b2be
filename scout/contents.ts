// What goes into the scout: packages, paths left out of them, kernel modules. A new driver or tool is one line here.

/** Debian packages of stage 2; their dependencies come with them, recommendations do not. */
export const stage2Packages = [
  'aria2',
  'btrfs-progs',
  'busybox',
  'dmidecode',
  'dmsetup',
  'dosfstools',
  'e2fsprogs',
  'efibootmgr',
  'ethtool',
  'fdisk',
  'gdisk',
  // Boot loaders for systems that bring none: the programs, and the modules for BIOS and UEFI.
  'grub-efi-amd64-bin',
  'grub-pc-bin',
  'grub2-common',
  'hdparm',
  'iproute2',
  'ipmitool',
  'kexec-tools',
  'kmod',
  // Node 26 needs these two beside glibc.
  'libatomic1',
  'libstdc++6',
  'lvm2',
  'mdadm',
  'ntfs-3g',
  'nvme-cli',
  'openssh-server',
  'smartmontools',
  'tar',
  'util-linux',
  'xfsprogs',
  'zstd',
]

/** `words('a b')` is `['a', 'b']`: the lists below are easier to read and to merge so. */
function words(text: string): string[] {
  return text.trim().split(/\s+/)
}

/**
 * Paths of the installed packages that stage 2 leaves out, as `tar --exclude` patterns: what only matters to installing
 * packages, to people reading, or to other systems, and everything that belongs to one machine (its name, resolver, keys).
 */
export const stage2Exclusions = [
  './dev/*',
  './boot/*',
  ...words('hostname resolv.conf machine-id ssh/moduli ssh/ssh_host_*').map((name) => `./etc/${name}`),
  // The scout serves SSH and is no client of it; its shell is dash, and for people busybox is enough.
  ...words('*perl* apt* bash dpkg* gpgv localedef pzstd scp sftp ssh ssh-a* ssh-keyscan').map((n) => `./usr/bin/${n}`),
  ...words('arpd bridge c*disk dcb debugfs devlink genl group* ipmievd newusers nstat').map((n) => `./usr/sbin/${n}`),
  ...words('rdma rtmon smartd tc tipc user* vdpa').map((name) => `./usr/sbin/${name}`),
  ...words('apt dpkg locale openssh/ssh-* systemd udev usrmerge xen-*').map((name) => `./usr/lib/${name}`),
  ...words('gconv perl* security libapt-* libdb-5* libicui18n* libicuio*').map((n) => `./usr/lib/*/${n}`),
  ...words('libicutest* libicutu* libmvec* libperl* libsemanage* libsepol* tc').map((name) => `./usr/lib/*/${name}`),
  ...words('libxenguest* libxenlight* libxenstat* libxlutil*').map((name) => `./usr/lib/*/${name}`),
  ...words('bash-completion bug common-licenses debconf doc* i18n info initramfs-tools').map((n) => `./usr/share/${n}`),
  ...words('keyrings lintian locale man perl* python3 zoneinfo zsh').map((name) => `./usr/share/${name}`),
  // What only other uses of the file systems, boot loaders and arrays need: repair, other firmware, menus with pictures,
  // daemons that watch. Python is a dependency of one program of xfsprogs.
  ...words('btrfs-* btrfstune grub-[bcefgks]* grub-mk[lprs]* grub-mkstand* grub-mount gettext lowntfs-3g').map(
    (n) => `./usr/bin/${n}`,
  ),
  ...words('ntfs-3g* ntfs[cdfimst]* ntfswipe ntfsundelete ntfsls pdb3* py3* pydoc* pygettext* python*').map(
    (n) => `./usr/bin/${n}`,
  ),
  ...words('dmeventd lvm_import_vdo lvmdump lvmpolld mdmon xfs_scrub* xfs_[bfhilmnqst]* xfs_db').map(
    (n) => `./usr/sbin/${n}`,
  ),
  ...words('python3* grub/*/monolithic grub/x86_64-efi/kernel.exec').map((name) => `./usr/lib/${name}`),
  ...words('cache/* lib/apt lib/dpkg log/*').map((name) => `./var/${name}`),
]

/** Stage 1: Ethernet drivers of servers, of the virtual machines of every common hypervisor, and of desks. */
export const networkModules = [
  ...words('alx atlantic atl1c be2net bnx2 bnx2x bnxt_en cxgb4 e1000 e1000e ena enic forcedeth gve hinic hv_netvsc'),
  ...words('i40e iavf ice igb igbvf igc ixgbe ixgbevf mlx4_en mlx5_core myri10ge netxen_nic nfp pcnet32 qede qlcnic'),
  ...words('r8169 8139cp 8139too sfc sfc-falcon sky2 tg3 virtio_net vmxnet3 xen-netfront'),
  // PHY drivers are asked for by their MAC's driver at run time, so no dependency names them.
  ...words('broadcom marvell realtek'),
  // Buses that other drivers' devices sit on.
  ...words('virtio_pci hv_vmbus pci-hyperv'),
  // The root of stage 2.
  ...words('loop overlay squashfs'),
]

/**
 * Stage 2: controllers of local disks, and what the agent needs beside them. No Fibre Channel and no iSCSI: a volume
 * of a storage network is shared with other machines, and a disk that the scout cannot see cannot be overwritten.
 */
export const storageModules = [
  ...words('3w-9xxx 3w-sas aacraid ahci ata_generic ata_piix arcmsr esas2r hpsa hptiop hv_storvsc ipr isci'),
  ...words('megaraid_mbox megaraid_sas mpi3mr mpt3sas mptsas mptspi mtip32xx mvsas mvumi myrs nvme pata_amd'),
  ...words('pata_atiixp pata_via pm80xx pmcraid sata_mv sata_nv sata_promise sata_sil sata_sil24 sata_svw sata_via'),
  ...words('smartpqi stex sym53c8xx virtio_blk virtio_scsi vmw_pvscsi xen-blkfront xen-scsifront'),
  // Disks, optical drives and generic SCSI; USB for virtual media, memory sticks and keyboards.
  ...words('sd_mod sr_mod sg ses ehci-pci ohci-pci uhci-hcd xhci-pci uas usb-storage usbhid hid-generic'),
  // File systems the agent mounts after writing, with what they ask for by name at run time.
  ...words('ext4 crc32c_generic crc32c-intel vfat nls_ascii nls_cp437 nls_utf8 efivarfs xfs btrfs'),
  // What those lie on: volumes and arrays.
  ...words('dm-mod md-mod raid0 raid1 raid10'),
  // Captures: the view of a disk that repairs write to.
  ...words('dm-snapshot'),
  // The machine's own management controller, and entropy of virtual machines.
  ...words('ipmi_si ipmi_ssif ipmi_devintf virtio-rng'),
]
