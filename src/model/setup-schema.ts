// The XML Schema of the setup document (paper, section II.A: "the setup is a XML file"). A string and not a file, so that
// every way of running the program has it; `hades setup schema` prints it.

export const setupNamespace = 'urn:hades:setup:1'

export const setupSchema = `<?xml version="1.0" encoding="UTF-8"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:hades:setup:1"
           targetNamespace="urn:hades:setup:1" elementFormDefault="qualified">

  <xs:element name="setup">
    <xs:annotation><xs:documentation>What a host is brought to: its disks, what lies where on them, which images go there,
      what makes the copy a system of its own, and how it is known that it worked.</xs:documentation></xs:annotation>
    <xs:complexType>
      <xs:sequence>
        <xs:element name="description" type="Text" minOccurs="0">
          <xs:annotation><xs:documentation>For people.</xs:documentation></xs:annotation>
        </xs:element>
        <xs:element name="disk" type="Disk" maxOccurs="16"/>
        <xs:element name="raid" type="Raid" minOccurs="0" maxOccurs="32"/>
        <xs:element name="volume-group" type="VolumeGroup" minOccurs="0" maxOccurs="32"/>
        <xs:element name="post-install" type="PostInstall" minOccurs="0"/>
        <xs:element name="transfer" type="Transfer" minOccurs="0"/>
        <xs:element name="finish" type="Finish" minOccurs="0"/>
        <xs:element name="probe" type="Probe" minOccurs="0"/>
        <xs:element name="deadlines" type="Deadlines" minOccurs="0"/>
      </xs:sequence>
      <xs:attribute name="name" type="Name" use="required"/>
    </xs:complexType>
  </xs:element>

  <xs:complexType name="Disk">
    <xs:annotation><xs:documentation>Exactly one disk of the host must meet every hint; none or several is a failure
      before anything is written. Without a hint, the host must have exactly one disk that no other disk of the setup
      takes. What follows lies on the whole disk, or in the partitions of a table. erase: what is done to the whole disk
      before: nothing beyond the signatures (none), discard, zeros, or the device's own secure erase. A setup of several
      disks names them.</xs:documentation></xs:annotation>
    <xs:sequence>
      <xs:element name="hint" type="Hint" minOccurs="0" maxOccurs="32"/>
      <xs:choice>
        <xs:group ref="Content"/>
        <xs:element name="table" type="Table"/>
      </xs:choice>
    </xs:sequence>
    <xs:attribute name="name" type="PlaceName" default="system"/>
    <xs:attribute name="erase" default="none">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="none"/>
          <xs:enumeration value="discard"/>
          <xs:enumeration value="zero"/>
          <xs:enumeration value="secure"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>

  <xs:complexType name="Table">
    <xs:annotation><xs:documentation>A new partition table, or the one that is there (keep): its partitions are named by
      number, those that are not named stay as they are, and with a size new ones are added behind.</xs:documentation></xs:annotation>
    <xs:sequence>
      <xs:element name="partition" type="Partition" maxOccurs="128"/>
    </xs:sequence>
    <xs:attribute name="type" use="required">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="gpt"/>
          <xs:enumeration value="mbr"/>
          <xs:enumeration value="keep"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>

  <xs:complexType name="Partition">
    <xs:annotation><xs:documentation>number: as the table counts, else one more than the partition before. size: 512MiB,
      20GiB, 40%, or grow for all that is left. start: where it begins, else behind the one before, on a whole MiB. type:
      what the table says it is; linux if nothing is said. label and uuid: of the partition, in a GPT. Without content
      it is empty.</xs:documentation></xs:annotation>
    <xs:group ref="Content" minOccurs="0"/>
    <xs:attribute name="number">
      <xs:simpleType>
        <xs:restriction base="xs:integer"><xs:minInclusive value="1"/><xs:maxInclusive value="128"/></xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="size" type="Size"/>
    <xs:attribute name="start" type="Size"/>
    <xs:attribute name="type" default="linux">
      <xs:simpleType>
        <xs:annotation><xs:documentation>linux, esp, bios-boot, swap, msr, windows, raid, lvm; for anything else the GUID of a GPT, or the two hexadecimal digits of an MBR.</xs:documentation></xs:annotation>
        <xs:restriction base="xs:token">
          <xs:pattern value="linux|esp|bios-boot|swap|msr|windows|raid|lvm|[0-9A-Fa-f]{2}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="label">
      <xs:simpleType>
        <xs:restriction base="xs:token"><xs:pattern value="[A-Za-z0-9 ._\\-]{1,36}"/></xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="uuid" type="Uuid"/>
  </xs:complexType>

  <xs:complexType name="Raid">
    <xs:annotation><xs:documentation>An array of Linux md; its members say \`member of\` its name.</xs:documentation></xs:annotation>
    <xs:group ref="Content"/>
    <xs:attribute name="name" type="PlaceName" use="required"/>
    <xs:attribute name="level" use="required">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="0"/>
          <xs:enumeration value="1"/>
          <xs:enumeration value="10"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>

  <xs:complexType name="VolumeGroup">
    <xs:annotation><xs:documentation>A volume group of LVM; its physical volumes say \`member of\` its name.</xs:documentation></xs:annotation>
    <xs:sequence>
      <xs:element name="volume" maxOccurs="128">
        <xs:complexType>
          <xs:group ref="Content" minOccurs="0"/>
          <xs:attribute name="name" type="PlaceName" use="required"/>
          <xs:attribute name="size" type="Size" use="required"/>
        </xs:complexType>
      </xs:element>
    </xs:sequence>
    <xs:attribute name="name" type="PlaceName" use="required"/>
  </xs:complexType>

  <xs:group name="Content">
    <xs:annotation><xs:documentation>What lies in a place. image: the bytes of an image of a disk or of a partition as they
      are. filesystem: created; with an image of a root file system (tar) inside, that is unpacked into it. keep: what is
      there stays, and it is a failure if it is not there. member: part of the array or volume group of that
      name.</xs:documentation></xs:annotation>
    <xs:choice>
      <xs:element name="image" type="ImageReference"/>
      <xs:element name="filesystem">
        <xs:complexType>
          <xs:sequence><xs:element name="image" type="ImageReference" minOccurs="0"/></xs:sequence>
          <xs:attribute name="type" use="required">
            <xs:simpleType>
              <xs:restriction base="xs:token">
                <xs:enumeration value="ext4"/>
                <xs:enumeration value="xfs"/>
                <xs:enumeration value="btrfs"/>
                <xs:enumeration value="vfat"/>
                <xs:enumeration value="ntfs"/>
              </xs:restriction>
            </xs:simpleType>
          </xs:attribute>
          <xs:attribute name="label" type="Label"/>
          <xs:attribute name="uuid" type="Uuid"/>
          <xs:attribute name="mount">
            <xs:simpleType>
              <xs:annotation><xs:documentation>Where the new system mounts it, as /var: what fstab writes, and where the parts of a root are unpacked to.</xs:documentation></xs:annotation>
              <xs:restriction base="xs:token"><xs:pattern value="/|(/[A-Za-z0-9._\\-]+)+"/><xs:maxLength value="190"/></xs:restriction>
            </xs:simpleType>
          </xs:attribute>
          <xs:attribute name="options">
            <xs:simpleType>
              <xs:annotation><xs:documentation>Mount options, as noatime,discard.</xs:documentation></xs:annotation>
              <xs:restriction base="xs:token"><xs:pattern value="[A-Za-z0-9,=._:/\\-]{1,190}"/></xs:restriction>
            </xs:simpleType>
          </xs:attribute>
        </xs:complexType>
      </xs:element>
      <xs:element name="swap">
        <xs:annotation><xs:documentation>Swap space, created.</xs:documentation></xs:annotation>
        <xs:complexType>
          <xs:attribute name="label" type="Label"/>
          <xs:attribute name="uuid" type="Uuid"/>
        </xs:complexType>
      </xs:element>
      <xs:element name="keep"><xs:complexType/></xs:element>
      <xs:element name="member">
        <xs:complexType><xs:attribute name="of" type="PlaceName" use="required"/></xs:complexType>
      </xs:element>
    </xs:choice>
  </xs:group>

  <xs:complexType name="PostInstall">
    <xs:annotation><xs:documentation>What makes the copy a system of its own, done on the host's disk after the images are
      proven. root: the place of the root file system, as system:2; else the one that is mounted at /, or the only one
      that looks like a root.</xs:documentation></xs:annotation>
    <xs:sequence>
      <xs:element name="hostname" minOccurs="0">
        <xs:annotation><xs:documentation>A template; {{host}} if empty.</xs:documentation></xs:annotation>
        <xs:simpleType>
          <xs:restriction base="xs:token"><xs:maxLength value="190"/></xs:restriction>
        </xs:simpleType>
      </xs:element>
      <xs:element name="network" minOccurs="0">
        <xs:annotation><xs:documentation>dhcp: the interface that booted asks for its address. static: it has the address that
          HaDeS knows of it; prefix, gateway and dns are then needed as far as the network needs them.</xs:documentation></xs:annotation>
        <xs:complexType>
          <xs:attribute name="mode" use="required">
            <xs:simpleType>
              <xs:restriction base="xs:token">
                <xs:enumeration value="keep"/>
                <xs:enumeration value="dhcp"/>
                <xs:enumeration value="static"/>
              </xs:restriction>
            </xs:simpleType>
          </xs:attribute>
          <xs:attribute name="prefix">
            <xs:simpleType>
              <xs:restriction base="xs:integer"><xs:minInclusive value="1"/><xs:maxInclusive value="32"/></xs:restriction>
            </xs:simpleType>
          </xs:attribute>
          <xs:attribute name="gateway" type="Ipv4"/>
          <xs:attribute name="dns">
            <xs:simpleType>
              <xs:annotation><xs:documentation>Up to eight IPv4 addresses with a space between them.</xs:documentation></xs:annotation>
              <xs:restriction base="xs:token"><xs:pattern value="[0-9]{1,3}(\\.[0-9]{1,3}){3}( [0-9]{1,3}(\\.[0-9]{1,3}){3}){0,7}"/></xs:restriction>
            </xs:simpleType>
          </xs:attribute>
        </xs:complexType>
      </xs:element>
      <xs:element name="ssh" minOccurs="0">
        <xs:annotation><xs:documentation>Keys of the SSH server, and keys that open it. host-keys: new ones for this host, or those
          of the image.</xs:documentation></xs:annotation>
        <xs:complexType>
          <xs:sequence>
            <xs:element name="authorized-key" minOccurs="0" maxOccurs="64">
              <xs:annotation><xs:documentation>Added to ~/.ssh/authorized_keys of a user that the image has.</xs:documentation></xs:annotation>
              <xs:complexType>
                <xs:simpleContent>
                  <xs:extension base="SshKey"><xs:attribute name="user" type="UserName" default="root"/></xs:extension>
                </xs:simpleContent>
              </xs:complexType>
            </xs:element>
          </xs:sequence>
          <xs:attribute name="host-keys" type="NewOrKeep" default="new"/>
        </xs:complexType>
      </xs:element>
      <xs:element name="machine-id" minOccurs="0">
        <xs:annotation><xs:documentation>A new /etc/machine-id: two machines with one confuse DHCP servers and logs.</xs:documentation></xs:annotation>
        <xs:complexType><xs:attribute name="mode" type="NewOrKeep" default="new"/></xs:complexType>
      </xs:element>
      <xs:element name="fstab" minOccurs="0">
        <xs:annotation><xs:documentation>Writes /etc/fstab with every file system of the setup that has a mount point.</xs:documentation></xs:annotation>
        <xs:complexType/>
      </xs:element>
      <xs:element name="grow" minOccurs="0">
        <xs:annotation><xs:documentation>The last partition of the disk of an image, and its file system, take what is free
          behind them.</xs:documentation></xs:annotation>
        <xs:complexType/>
      </xs:element>
      <xs:element name="boot-loader" minOccurs="0">
        <xs:annotation><xs:documentation>Installs a boot loader for the firmware that the host has: for a root file system that
          was unpacked, which brings none.</xs:documentation></xs:annotation>
        <xs:complexType/>
      </xs:element>
      <xs:element name="cloud-init" minOccurs="0">
        <xs:annotation><xs:documentation>A seed of cloud-init's data source NoCloud; each document is a template.</xs:documentation></xs:annotation>
        <xs:complexType>
          <xs:sequence>
            <xs:element name="user-data" type="Document"/>
            <xs:element name="meta-data" type="Document" minOccurs="0"/>
            <xs:element name="network-config" type="Document" minOccurs="0"/>
          </xs:sequence>
        </xs:complexType>
      </xs:element>
      <xs:element name="script" minOccurs="0" maxOccurs="64">
        <xs:annotation><xs:documentation>Run in the order of the document, with /bin/sh unless it begins with #!, in the new
          system (chroot) or beside it in the scout. The text, or a script of the library: its newest version when the
          rollout begins, unless one is named (name:2). A template only with template="yes".</xs:documentation></xs:annotation>
        <xs:complexType>
          <xs:simpleContent>
            <xs:extension base="Document">
              <xs:attribute name="name" type="Name" use="required"/>
              <xs:attribute name="in" default="chroot">
                <xs:simpleType>
                  <xs:restriction base="xs:token">
                    <xs:enumeration value="chroot"/>
                    <xs:enumeration value="scout"/>
                  </xs:restriction>
                </xs:simpleType>
              </xs:attribute>
              <xs:attribute name="library" type="ScriptReference"/>
              <xs:attribute name="template" default="no">
                <xs:simpleType>
                  <xs:restriction base="xs:token">
                    <xs:enumeration value="yes"/>
                    <xs:enumeration value="no"/>
                  </xs:restriction>
                </xs:simpleType>
              </xs:attribute>
              <xs:attribute name="timeout" type="Duration" default="5min"/>
            </xs:extension>
          </xs:simpleContent>
        </xs:complexType>
      </xs:element>
    </xs:sequence>
    <xs:attribute name="root">
      <xs:simpleType>
        <xs:annotation><xs:documentation>A place, as system:2, md0 or vg0/root.</xs:documentation></xs:annotation>
        <xs:restriction base="xs:token"><xs:maxLength value="100"/><xs:pattern value="[a-z0-9][a-z0-9_\\-]*([:/][a-z0-9_\\-]+)?"/></xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>

  <xs:complexType name="Hint">
    <xs:annotation><xs:documentation>One condition on the disk, of what the inventory of the host says of it (hades host show).
      lt, le, gt and ge are for sizes, contains is for text.</xs:documentation></xs:annotation>
    <xs:attribute name="property" use="required">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="size"/>
          <xs:enumeration value="model"/>
          <xs:enumeration value="serial"/>
          <xs:enumeration value="wwn"/>
          <xs:enumeration value="path"/>
          <xs:enumeration value="transport"/>
          <xs:enumeration value="rotational"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="operator" default="eq">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="eq"/>
          <xs:enumeration value="ne"/>
          <xs:enumeration value="lt"/>
          <xs:enumeration value="le"/>
          <xs:enumeration value="gt"/>
          <xs:enumeration value="ge"/>
          <xs:enumeration value="contains"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="value" use="required">
      <xs:annotation><xs:documentation>For size a number with a unit (20GiB, 500GB, 4096MiB, bytes without one); for
        rotational true or false; text otherwise, compared without case.</xs:documentation></xs:annotation>
      <xs:simpleType>
        <xs:restriction base="xs:token"><xs:minLength value="1"/><xs:maxLength value="190"/></xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>

  <xs:complexType name="Transfer">
    <xs:annotation><xs:documentation>How the image reaches the hosts. engine: from the origin and from each other by our
      own peers (swarm) or by aria2, or from the origin alone (http). linger: the longest that a host whose disk is proven
      stays as a source for the others, at most 24h. egress, ingress: caps of what each host sends to and receives from
      others. redeploy: whether the disk's own content is compared first and only what differs is fetched and written
      (difference), always all (full), or the first where a sample of the disk says that it pays
      (auto).</xs:documentation></xs:annotation>
    <xs:attribute name="engine" default="swarm">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="swarm"/>
          <xs:enumeration value="aria2"/>
          <xs:enumeration value="http"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="linger" default="60s">
      <xs:simpleType>
        <xs:annotation><xs:documentation>As 90s, 15min, 2h; 0s not to stay.</xs:documentation></xs:annotation>
        <xs:restriction base="xs:token"><xs:pattern value="0s|[1-9][0-9]{0,5}(s|min|h)"/></xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="egress" type="Rate"/>
    <xs:attribute name="ingress" type="Rate"/>
    <xs:attribute name="redeploy" default="full">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="full"/>
          <xs:enumeration value="difference"/>
          <xs:enumeration value="auto"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>

  <xs:complexType name="Finish">
    <xs:annotation><xs:documentation>What the agent does when the disk is proven: reboot, start the new kernel without the
      firmware (kexec; by a reboot where that cannot be), poweroff, or stay in the scout. target: what the host boots from
      then on: local, local:2 for the system on partition 2, netboot:PROFILE, hold, scout.</xs:documentation></xs:annotation>
    <xs:attribute name="action" default="reboot">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="reboot"/>
          <xs:enumeration value="kexec"/>
          <xs:enumeration value="poweroff"/>
          <xs:enumeration value="stay"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="target" default="local">
      <xs:simpleType>
        <xs:annotation><xs:documentation>local, local:NUMBER, netboot:PROFILE, hold or scout.</xs:documentation></xs:annotation>
        <xs:restriction base="xs:token">
          <xs:pattern value="local(:[1-9][0-9]{0,2})?|hold|scout|netboot:[a-z0-9][a-z0-9._\\-]{0,99}"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>

  <xs:complexType name="Probe">
    <xs:annotation><xs:documentation>How the new system is seen. dhcp: it asks for its address as itself, not as firmware
      or scout. tcp: it answers on a port, with text that begins so if \`expect\` is given. none: the deployment is done
      when the host was told to reboot, and its record says that nobody looked.</xs:documentation></xs:annotation>
    <xs:choice>
      <xs:element name="dhcp"><xs:complexType/></xs:element>
      <xs:element name="tcp">
        <xs:complexType>
          <xs:attribute name="port" use="required">
            <xs:simpleType>
              <xs:restriction base="xs:integer"><xs:minInclusive value="1"/><xs:maxInclusive value="65535"/></xs:restriction>
            </xs:simpleType>
          </xs:attribute>
          <xs:attribute name="expect" type="Text"/>
        </xs:complexType>
      </xs:element>
      <xs:element name="none"><xs:complexType/></xs:element>
    </xs:choice>
  </xs:complexType>

  <xs:complexType name="Deadlines">
    <xs:annotation><xs:documentation>boot: from power-on to the agent (20min), each attempt. deploy: from there to the proven
      disk (4h). observe: from the reboot to the new system (20min). attempts: how often the machine is told to boot before
      its deployment fails (3).</xs:documentation></xs:annotation>
    <xs:attribute name="boot" type="Duration"/>
    <xs:attribute name="deploy" type="Duration"/>
    <xs:attribute name="observe" type="Duration"/>
    <xs:attribute name="attempts">
      <xs:simpleType>
        <xs:restriction base="xs:integer"><xs:minInclusive value="1"/><xs:maxInclusive value="10"/></xs:restriction>
      </xs:simpleType>
    </xs:attribute>
  </xs:complexType>

  <xs:simpleType name="Name">
    <xs:annotation><xs:documentation>Small letters, digits, dots, hyphens and underscores, at most 100.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token">
      <xs:maxLength value="100"/>
      <xs:pattern value="[a-z0-9][a-z0-9._\\-]*"/>
    </xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="PlaceName">
    <xs:annotation><xs:documentation>Small letters, digits, hyphens and underscores, at most 30.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token">
      <xs:maxLength value="30"/>
      <xs:pattern value="[a-z0-9][a-z0-9_\\-]*"/>
    </xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Size">
    <xs:annotation><xs:documentation>512MiB, 20GiB, 500GB, a number of bytes; 40% of the disk or group; grow.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token"><xs:pattern value="grow|[1-9][0-9]{0,1}%|100%|[1-9][0-9]{0,15}( ?[A-Za-z]{1,3})?"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Uuid">
    <xs:annotation><xs:documentation>As 2f0c1c4e-6b7e-4f7a-9a51-0d2f5a1b3c4d; for vfat ABCD-1234, for ntfs 16 hexadecimal digits. The same on
      every host: leave it out, and each gets its own.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token"><xs:pattern value="[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}|[0-9A-Fa-f]{16}"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Label">
    <xs:annotation><xs:documentation>Letters, digits, dots, hyphens and underscores, at most 16, and fewer where the file system has less.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token"><xs:pattern value="[A-Za-z0-9._\\-]{1,16}"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Ipv4">
    <xs:annotation><xs:documentation>An IPv4 address.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token"><xs:pattern value="[0-9]{1,3}(\\.[0-9]{1,3}){3}"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="UserName">
    <xs:annotation><xs:documentation>A user of the image.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token"><xs:pattern value="[a-z_][a-z0-9_\\-]{0,31}"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="SshKey">
    <xs:annotation><xs:documentation>One line of authorized_keys.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token"><xs:maxLength value="8000"/><xs:pattern value="[a-z0-9@.\\-]+ [A-Za-z0-9+/=]+( [^\\r\\n]*)?"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="NewOrKeep">
    <xs:restriction base="xs:token">
      <xs:enumeration value="new"/>
      <xs:enumeration value="keep"/>
    </xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Document">
    <xs:annotation><xs:documentation>Text of at most 65536 characters.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:string"><xs:maxLength value="65536"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Text">
    <xs:restriction base="xs:string"><xs:maxLength value="1000"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="ImageReference">
    <xs:annotation><xs:documentation>A published image, as name:version.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token">
      <xs:maxLength value="190"/>
      <xs:pattern value="[a-z0-9][a-z0-9._\\-]*:[a-z0-9][a-z0-9._\\-]*"/>
    </xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="ScriptReference">
    <xs:annotation><xs:documentation>A script of the library: name, or name:version.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token">
      <xs:maxLength value="110"/>
      <xs:pattern value="[a-z0-9][a-z0-9._\\-]*(:[1-9][0-9]{0,8})?"/>
    </xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Rate">
    <xs:annotation><xs:documentation>Bytes a second, at least 1kB/s: 50MB/s, 100MiB/s, 50M, a number of bytes.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token"><xs:pattern value="[0-9]{1,15}(\\.[0-9]{1,3})? ?[A-Za-z]{0,3}(/s)?"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Duration">
    <xs:annotation><xs:documentation>A whole number of seconds, minutes or hours: 90s, 15min, 2h.</xs:documentation></xs:annotation>
    <xs:restriction base="xs:token"><xs:pattern value="[1-9][0-9]{0,5}(s|min|h)"/></xs:restriction>
  </xs:simpleType>
</xs:schema>
`
