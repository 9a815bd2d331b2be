// Long operations that a caller watches: their rows outlive the process that works on them.
import type { Selectable } from 'kysely'
import { Failure } from '../model/failure.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { TaskRow } from './schema.ts'

export type Task = Selectable<TaskRow>

/** Begins a task and returns it. */
export async function addTask(db: Db, task: Pick<Task, 'kind' | 'subject' | 'owner'>, now: number): Promise<Task> {
  const row = await db
    .insertInto('tasks')
    .values({ ...task, state: 'running', done_bytes: 0, started_at: now })
    .executeTakeFirstOrThrow()
  return await findTask(db, Number(row.insertId))
}

/** The task; Failure `unknown-task`. */
export async function findTask(db: Db, id: number): Promise<Task> {
  const task = await db.selectFrom('tasks').selectAll().where('id', '=', id).executeTakeFirst()
  if (!task) throw new Failure('unknown-task', `there is no task ${id}`, { at: 'task' })
  return task
}

/** Tasks, newest first, all or those in a state. */
export async function pageOfTasks(db: Db, state: Task['state'] | undefined, page: Page): Promise<Paged<Task>> {
  const query = db
    .selectFrom('tasks')
    .selectAll()
    .$if(state !== undefined, (tasks) => tasks.where('state', '=', state ?? 'running'))
  return await readPage(query, [{ by: 'id', of: (task) => task.id, descending: true }], page)
}

export async function setTaskProgress(
  db: Db,
  id: number,
  doneBytes: number,
  totalBytes: number | undefined,
): Promise<void> {
  await db
    .updateTable('tasks')
    .set({ done_bytes: doneBytes, total_bytes: totalBytes ?? null })
    .where('id', '=', id)
    .where('state', '=', 'running')
    .execute()
}

/** Ends a task that runs: done, or failed with the failure as JSON. */
export async function endTask(db: Db, id: number, failure: string | undefined, now: number): Promise<void> {
  await db
    .updateTable('tasks')
    .set({ state: failure === undefined ? 'done' : 'failed', failure: failure ?? null, ended_at: now })
    .where('id', '=', id)
    .where('state', '=', 'running')
    .execute()
}

/** A running task on this subject, if there is one. */
export async function runningTask(db: Db, kind: Task['kind'], subject: string): Promise<Task | undefined> {
  return await db
    .selectFrom('tasks')
    .selectAll()
    .where('kind', '=', kind)
    .where('subject', '=', subject)
    .where('state', '=', 'running')
    .executeTakeFirst()
}

/** True while any task of this kind runs. */
export async function isAnyRunning(db: Db, kind: Task['kind']): Promise<boolean> {
  const running = db.selectFrom('tasks').select('id').where('kind', '=', kind).where('state', '=', 'running')
  return (await running.executeTakeFirst()) !== undefined
}

/** Ends every task of this kind that `owner` left running: it starts anew and works on none of them. */
export async function failRunningTasks(
  db: Db,
  { kind, owner }: Pick<Task, 'kind' | 'owner'>,
  failure: string,
  now: number,
): Promise<void> {
  await db
    .updateTable('tasks')
    .set({ state: 'failed', failure, ended_at: now })
    .where('state', '=', 'running')
    .where('kind', '=', kind)
    .where('owner', '=', owner)
    .execute()
}

/** The tasks of this kind that run. */
export async function runningTasks(db: Db, kind: Task['kind']): Promise<Task[]> {
  return await db.selectFrom('tasks').selectAll().where('kind', '=', kind).where('state', '=', 'running').execute()
}
