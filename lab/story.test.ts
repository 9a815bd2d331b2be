import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { missingEvent, namedEvents } from './story.ts'

const page = await readFile(join(import.meta.dirname, '..', 'docs', 'boot.md'), 'utf8')
const events = (words: string): string[] => words.split(' ')

/** A UEFI machine, up to the proven disk; its loaders and stages ask by DHCP and TFTP more than once. */
const deployed =
  'host-added rollout-started powering power power booting dhcp-discover dhcp-request tftp-asked tftp-failed tftp-asked ' +
  'tftp-sent boot-script tftp-asked tftp-sent tftp-asked tftp-sent tftp-asked tftp-sent dhcp-discover dhcp-scout http-sent ' +
  'dhcp-discover dhcp-scout registered disk-chosen step step step gpt-moved step boot-entry completed'
const rebooted = 'dhcp-discover dhcp-request tftp-asked tftp-sent boot-script dhcp-discover dhcp-system done'

/** What the page says is missing from this timeline. */
function missing(kinds: readonly string[]): string | undefined {
  return missingEvent(namedEvents(page, kinds), kinds)
}

test('a machine that came back by itself has the events of the page, with a step more or less', () => {
  expect(missing(events(`${deployed} ${rebooted}`))).toBeUndefined()
  expect(missing(events(`${deployed.replace('gpt-moved step', 'gpt-moved step step')} ${rebooted}`))).toBeUndefined()
})

test('one that did not come back and was nudged has the events of that path', () => {
  expect(missing(events(`${deployed} nudged power power dhcp-discover dhcp-system done`))).toBeUndefined()
  // It may as well have come back and not have shown its new system.
  expect(missing(events(`${deployed} ${rebooted.replace('done', 'nudged power power done')}`))).toBeUndefined()
})

test.each([
  ['the script of the reboot', `${deployed} dhcp-discover dhcp-system done`, /no boot-script after .* completed/],
  ['the power of the nudge', `${deployed} nudged dhcp-discover dhcp-system done`, /no power after .* nudged/],
  ['the end', `${deployed} nudged power power`, /no done/],
  ['the proof', `${deployed.replace(' completed', '')} nudged power power done`, /no completed/],
  ['the registration', `${deployed.replace('registered ', '')} ${rebooted}`, /no registered/],
])('without %s it is not that story', (_what, kinds, sentence) => {
  expect(missing(events(kinds))).toMatch(sentence)
})
