// Users: who may log in, and as what.
import type { Selectable, Updateable } from 'kysely'
import { Failure } from '../model/failure.ts'
import type { Role } from '../model/role.ts'
import type { Db } from './open.ts'
import type { UserRow } from './schema.ts'

export type User = Selectable<UserRow>

/** Adds a user. Failure `already-exists`. Call it in a transaction. */
export async function addUser(
  db: Db,
  user: { readonly name: string; readonly role: Role; readonly password?: string; readonly oidcSubject?: string },
  now: number,
): Promise<User> {
  if (await lookUpUser(db, user.name)) {
    throw new Failure('already-exists', `there is a user ${user.name} already`, { at: 'name' })
  }
  const row = {
    name: user.name,
    role: user.role,
    password: user.password ?? null,
    oidc_subject: user.oidcSubject ?? null,
    is_disabled: 0,
    created_at: now,
    changed_at: now,
    last_login_at: null,
  }
  const { insertId } = await db.insertInto('users').values(row).executeTakeFirstOrThrow()
  return { id: Number(insertId), ...row }
}

export async function lookUpUser(db: Db, name: string): Promise<User | undefined> {
  return await db.selectFrom('users').selectAll().where('name', '=', name).executeTakeFirst()
}

/** Failure `unknown-user`. */
export async function findUser(db: Db, name: string, at = 'name'): Promise<User> {
  const user = await lookUpUser(db, name)
  if (!user) throw new Failure('unknown-user', `there is no user ${name}`, { at })
  return user
}

export async function userBySubject(db: Db, subject: string): Promise<User | undefined> {
  return await db.selectFrom('users').selectAll().where('oidc_subject', '=', subject).executeTakeFirst()
}

export async function listUsers(db: Db): Promise<User[]> {
  return await db.selectFrom('users').selectAll().orderBy('name').execute()
}

export async function changeUser(db: Db, id: number, change: Updateable<UserRow>, now: number): Promise<void> {
  await db
    .updateTable('users')
    .set({ ...change, changed_at: now })
    .where('id', '=', id)
    .execute()
}

/** Its tokens go with it. */
export async function removeUser(db: Db, id: number): Promise<void> {
  await db.deleteFrom('users').where('id', '=', id).execute()
}

export async function markLogin(db: Db, id: number, now: number): Promise<void> {
  await db.updateTable('users').set({ last_login_at: now }).where('id', '=', id).execute()
}
