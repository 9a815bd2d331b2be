import { expect, test } from 'vitest'
import { nameOfPlace, parsePlace } from './place.ts'

test('the nodes of a cluster, their ports and TLS stand in one address', () => {
  const place = parsePlace('mariadb://hades@db1,db2:3307,[::1]:3308/hades?tls=verify&ca=/etc/ca.pem')
  expect(place).toMatchObject({
    kind: 'mariadb',
    nodes: [
      { host: 'db1', port: 3306 },
      { host: 'db2', port: 3307 },
      { host: '::1', port: 3308 },
    ],
    user: 'hades',
    database: 'hades',
    tls: { ca: '/etc/ca.pem', identity: undefined },
  })
  expect(nameOfPlace(place)).toBe('the database hades at db1:3306, db2:3307, ::1:3308')
})

test('a path is a SQLite file, and a socket is near', () => {
  expect(parsePlace('/var/lib/hades/hades.db')).toEqual({ kind: 'sqlite', path: '/var/lib/hades/hades.db' })
  expect(parsePlace('mariadb://hades@localhost/hades?socket=/run/mysqld/mysqld.sock')).toMatchObject({
    nodes: [{ socketPath: '/run/mysqld/mysqld.sock' }],
    tls: undefined,
  })
})

test.each([
  ['mariadb://hades:secret@db/hades?tls=off', /holds a password/],
  ['postgres://hades@db/hades', /postgres/],
  ['mariadb://db/hades', /must read/],
  ['mariadb://hades@db', /must read/],
  ['mariadb://hades@/hades?tls=off', /no host/],
  ['mariadb://hades@db:99999/hades?tls=off', /no host/],
  ['mariadb://hades@db/hades?tls=maybe', /tls=verify/],
  ['mariadb://hades@db/hades?sslmode=require', /sslmode/],
  ['mariadb://hades@db/hades?tls=off&ca=/etc/ca.pem', /must say tls=verify/],
  ['mariadb://hades@localhost/hades?ca=/etc/ca.pem', /must say tls=verify/],
  ['mariadb://hades@db/hades?tls=verify&cert=/etc/cert.pem', /cert and key together/],
  ['mariadb://hades@localhost/hades?tls=verify&socket=/run/socket', /none for a socket/],
  ['mariadb://hades@db/hades', /must say tls=verify/],
])('%s is refused, and the refusal never repeats a password', (text, why) => {
  expect(() => parsePlace(text)).toThrow(why)
  expect(() => parsePlace(text)).not.toThrow(/secret/)
})
