// Prints the one closing line that scripts read: `N passed, N failed` (and `, N skipped`). A skipped test must say why
// and is a failure when CI is set, so that a missing peer can never look like a pass.
import type { Reporter, TestModule } from 'vitest/node'

export default class TallyReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    let passed = 0
    let failed = unhandled.length
    const skipped: string[] = []
    for (const module of modules) {
      failed += module.errors().length
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') passed += 1
        else if (state === 'failed') failed += 1
        else skipped.push(`${module.relativeModuleId} > ${test.fullName}`)
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
