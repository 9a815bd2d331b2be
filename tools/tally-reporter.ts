// Prints the one closing line that scripts read: `N passed, N failed` (and `, N skipped`), and before it all that failed, a
// line each: the end of a long log is what people see of it. A skipped test must say why and is a failure when CI is set, so
// that a missing peer can never look like a pass.
import type { Reporter, TestModule } from 'vitest/node'

export default class TallyReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    let passed = 0
    let failed = unhandled.length
    const skipped: string[] = []
    for (const error of unhandled) console.log(`unhandled: ${headOf(error)}`)
    for (const module of modules) {
      const name = `${module.project.name} ${module.relativeModuleId}`
      failed += module.errors().length
      for (const error of module.errors()) console.log(`failed: ${name}: ${headOf(error)}`)
      for (const suite of module.children.allSuites()) {
        for (const error of suite.errors()) console.log(`failed: ${name} > ${suite.fullName}: ${headOf(error)}`)
        failed += suite.errors().length
      }
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result()
        if (state === 'passed') passed += 1
        else if (state === 'failed') {
          failed += 1
          console.log(`failed: ${name} > ${test.fullName}: ${headOf(errors[0])}`)
        } else skipped.push(`${module.relativeModuleId} > ${test.fullName}`)
      }
    }
    for (const name of skipped) console.log(`skipped: ${name}`)
    if (process.env.CI && skipped.length > 0) {
      console.log(`${skipped.length} unexpected skips count as failures in CI`)
      failed += skipped.length
      process.exitCode = 1
    }
    if (passed + failed === 0) {
      console.log('no test ran')
      failed = 1
      process.exitCode = 1
    }
    console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`)
  }
}

const headLengthMax = 300

function headOf(error: unknown): string {
  const message = error instanceof Object && 'message' in error ? String(error.message) : String(error)
  const [head = 'no message'] = message.split('\n').filter((line) => line.trim() !== '')
  return head.slice(0, headLengthMax)
}
