import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { compileCheck, pruned, schemaOf } from './schema.ts'

const type = Type.Object({
  name: Type.String({ pattern: '^[a-z]+$', maxLength: 5, description: 'lower-case letters' }),
  action: Type.Optional(Type.Enum(['on', 'off'])),
  count: Type.Optional(Type.Integer()),
  share: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
  at: Type.Optional(Type.String({ format: 'date-time' })),
  disks: Type.Optional(Type.Array(Type.Object({ path: Type.String(), ssd: Type.Boolean() }), { maxItems: 2 })),
})
const check = compileCheck(type)
const said = (value: unknown) => check(value).map(({ at, sentence }) => `${at}: ${sentence}`)

test('a value that fits has no problem', () => {
  const disks = [{ path: '', ssd: true }]
  expect(said({ name: 'abc', action: 'on', count: -3, share: 0.5, at: '2026-11-22T17:00:00Z', disks })).toEqual([])
})

test('each problem names its field, what was given and what is allowed', () => {
  expect(said({})).toEqual(['name: `name` is missing; it must be text (lower-case letters)'])
  expect(said({ name: 'A' })).toEqual(['name: `name` is "A"; it must be: lower-case letters'])
  expect(said({ name: 'abcdef' })).toEqual(['name: `name` has 6 characters; at most 5 are allowed'])
  expect(said({ name: 3 })).toEqual(['name: `name` is 3; it must be text (lower-case letters)'])
  expect(said({ name: 'a', action: 'cycle' })).toEqual(['action: `action` is "cycle"; allowed are on, off'])
  expect(said({ name: 'a', count: 2.5 })).toEqual(['count: `count` is 2.5; it must be a whole number'])
  expect(said({ name: 'a', share: 2 })).toEqual(['share: `share` is 2; from 0 to 1 is allowed'])
  expect(said({ name: 'a', share: Number.NaN })).toEqual(['share: `share` is NaN; it must be a number'])
  expect(said({ name: 'a', at: '2026-02-30T00:00:00Z' })[0]).toMatch(
    /^at: `at` is "2026-02-30T00:00:00Z"; it must be a d/,
  )
  expect(
    said({
      name: 'a',
      disks: [
        { path: 'x', ssd: true },
        { path: 'y', ssd: 'yes' },
      ],
    }),
  ).toEqual(['disks[1].ssd: `disks[1].ssd` is the text "yes"; it must be true or false'])
  expect(said({ name: 'a', disks: {} })).toEqual(['disks: `disks` is an object; it must be a list'])
  expect(said([])).toEqual([': the input is a list; it must be an object'])
  expect(said(null)).toEqual([': the input is null; it must be an object'])
})

test('a field that nobody knows is named, with those there are', () => {
  expect(said({ name: 'a', nmae: 1 })).toEqual([
    'nmae: there is no field `nmae`; the fields here are name, action, count, share, at, disks',
  ])
  expect(said(JSON.parse('{"name":"a","__proto__":{},"disks":[{"path":"x","ssd":true,"x/y":1}]}'))).toEqual([
    '__proto__: there is no field `__proto__`; the fields here are name, action, count, share, at, disks',
    'disks[0].x/y: there is no field `disks[0].x/y`; the fields here are path, ssd',
  ])
})

test('integers that two numbers could mean are refused', () => {
  expect(said(JSON.parse('{"name":"a","count":9007199254740993}'))).toEqual([
    'count: `count` is 9007199254740992; at most 9007199254740991 is allowed',
  ])
})

test('a thousand problems are reported as a few', () => {
  const many = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`x${i}`, i]))
  const problems = check(many)
  expect(problems.length).toBeGreaterThan(0)
  expect(problems.length).toBeLessThan(20)
})

test('pruning keeps what the schema names and nothing that is undefined', () => {
  const given = { name: 'a', secret: 1, action: undefined, disks: [{ path: 'x', ssd: false, more: 2 }] }
  expect(pruned(schemaOf(type), given)).toStrictEqual({ name: 'a', disks: [{ path: 'x', ssd: false }] })
})
