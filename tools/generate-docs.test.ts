import { expect, test } from 'vitest'
import { stalePages } from './generate-docs.ts'

test('the reference pages say what the contract and the program say (else run `make docs`)', async () => {
  expect(await stalePages()).toEqual([])
})
