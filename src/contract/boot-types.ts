// The data types of boot records and netboot profiles.
import { Type } from 'typebox'
import { profileNamePattern } from '../model/boot.ts'
import { filePathMax, initrdsMax, kernelArgumentsMax, templateWords } from '../model/profile.ts'
import { bootTarget, dateTime, hostName, id } from './types.ts'

export const bootRecord = Type.Object(
  {
    host: hostName,
    target: bootTarget,
    defaultTarget: bootTarget,
    once: Type.Boolean({ description: 'The target is for one boot; then it is the default again' }),
    deployment: Type.Optional(id),
    changedAt: dateTime,
    askedAt: Type.Optional(dateTime),
  },
  { title: 'BootRecord' },
)

export const profileName = Type.String({
  title: 'ProfileName',
  pattern: profileNamePattern,
  description: 'A netboot profile: lower-case letters, digits, ".", "_" and "-"',
})

const profileFile = Type.String({ minLength: 1, maxLength: filePathMax })

/** What may be said of a netboot profile. */
export const profileFields = {
  kernel: Type.Optional(
    Type.String({
      ...profileFile,
      description: "A Linux kernel, or what starts like one; a file below the profile's folder, or `/scout/vmlinuz`",
    }),
  ),
  initrds: Type.Optional(Type.Array(profileFile, { maxItems: initrdsMax })),
  arguments: Type.Optional(
    Type.String({
      maxLength: kernelArgumentsMax,
      description: `Of the kernel; ${Object.keys(templateWords)
        .map((word) => `{{${word}}}`)
        .join(', ')} are filled in for each host`,
    }),
  ),
  biosProgram: Type.Optional(
    Type.String({ ...profileFile, description: 'A PXE boot program (.0, .kpxe) that BIOS machines get instead' }),
  ),
  uefiProgram: Type.Optional(
    Type.String({ ...profileFile, description: 'An EFI program that UEFI machines get instead' }),
  ),
}

export const profile = Type.Object(
  {
    name: profileName,
    kernel: profileFields.kernel,
    initrds: Type.Array(profileFile, { maxItems: initrdsMax }),
    arguments: profileFields.arguments,
    biosProgram: profileFields.biosProgram,
    uefiProgram: profileFields.uefiProgram,
    folder: Type.String({ description: 'Where its files lie, on the machine of the service' }),
    changedAt: dateTime,
  },
  { title: 'NetbootProfile' },
)
