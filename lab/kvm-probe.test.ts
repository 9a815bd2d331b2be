import { expect, test } from 'vitest'
import { chooseAccelerator, probe, probeRom } from './kvm-probe.ts'

test('the probe runs to its end where the processor is emulated in full', async () => {
  expect(await probe('tcg', { timeoutMs: 25_000 })).toEqual({ runs: true, why: 'the probe guest ran' })
})

test('a guest that is stopped half-way has not run', async () => {
  const verdict = await probe('tcg', { timeoutMs: 50 })
  expect(verdict.runs).toBe(false)
})

test('the probe is a firmware image whose reset vector jumps', () => {
  const rom = probeRom()
  expect(rom.length).toBe(65_536)
  expect(rom[0xfff0]).toBe(0xe9)
})

test('what the lab file says is not probed', async () => {
  expect(await chooseAccelerator('tcg')).toEqual({ accel: 'tcg', why: 'the lab file says so' })
})
