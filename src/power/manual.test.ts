import { Secret } from '../lib/secret.ts'
import { powerDriverConformance } from './driver.conformance.ts'
import { manual } from './manual.ts'

powerDriverConformance('manual', manual, async () => ({
  method: { driver: 'manual', address: 'rack 3, slot 7', username: '', password: new Secret(''), options: {} },
  close: async () => undefined,
}))
