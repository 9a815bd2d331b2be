// The XML Schema of the setup document (paper, section II.A: "the setup is a XML file"). A string and not a file, so that
// every way of running the program has it; `hades setup schema` prints it.

export const setupNamespace = 'urn:hades:setup:1'

export const setupSchema = `<?xml version="1.0" encoding="UTF-8"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:hades:setup:1"
           targetNamespace="urn:hades:setup:1" elementFormDefault="qualified">

  <xs:element name="setup">
    <xs:annotation><xs:documentation>What a host is brought to: which disk, which image, and how it is known that it
      worked.</xs:documentation></xs:annotation>
    <xs:complexType>
      <xs:sequence>
        <xs:element name="description" type="Text" minOccurs="0"/>
        <xs:element name="disk" type="Disk"/>
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
      before anything is written. Without a hint, the host must have exactly one disk.</xs:documentation></xs:annotation>
    <xs:sequence>
      <xs:element name="hint" type="Hint" minOccurs="0" maxOccurs="32"/>
      <xs:element name="image" type="ImageReference"/>
    </xs:sequence>
  </xs:complexType>

  <xs:complexType name="Hint">
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
      others.</xs:documentation></xs:annotation>
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
        <xs:restriction base="xs:token"><xs:pattern value="0s|[1-9][0-9]{0,5}(s|min|h)"/></xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="egress" type="Rate"/>
    <xs:attribute name="ingress" type="Rate"/>
  </xs:complexType>

  <xs:complexType name="Finish">
    <xs:annotation><xs:documentation>What the agent does when the disk is proven, and what the host boots from then
      on.</xs:documentation></xs:annotation>
    <xs:attribute name="action" default="reboot">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="reboot"/>
          <xs:enumeration value="poweroff"/>
        </xs:restriction>
      </xs:simpleType>
    </xs:attribute>
    <xs:attribute name="target" default="local">
      <xs:simpleType>
        <xs:restriction base="xs:token">
          <xs:enumeration value="local"/>
          <xs:enumeration value="hold"/>
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
    <xs:restriction base="xs:token">
      <xs:maxLength value="100"/>
      <xs:pattern value="[a-z0-9][a-z0-9._\\-]*"/>
    </xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="Text">
    <xs:restriction base="xs:string"><xs:maxLength value="1000"/></xs:restriction>
  </xs:simpleType>
  <xs:simpleType name="ImageReference">
    <xs:restriction base="xs:token">
      <xs:maxLength value="190"/>
      <xs:pattern value="[a-z0-9][a-z0-9._\\-]*:[a-z0-9][a-z0-9._\\-]*"/>
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
