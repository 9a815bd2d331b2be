// Adds a host, puts a setup, plans a rollout, starts it, watches it to its end and reads its proof, through a client that
// openapi-client-axios derives from the OpenAPI document of the Control Port: each operation is a function of its name, which takes
// the parameters (path, query and header), then the body. docs/clients.md says how it is run. Exit code 0: every host is done; 1:
// not so; 2: a call failed.
//   node rollout.mjs <url of the service> < order.json
// The order is {"host": input of addHost, "setup": name, "setupXml": text}. HADES_TOKEN is the token; Node reads the CA file of the
// service from NODE_EXTRA_CA_CERTS.
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { OpenAPIClientAxios } from 'openapi-client-axios'

// More than one watch of a rollout lasts: then something is wrong that this program cannot mend.
const pollsMax = 36_000

async function roll(url, { host, setup, setupXml }) {
  const api = new OpenAPIClientAxios({
    definition: `${url}/control/openapi.json`,
    axiosConfigDefaults: { timeout: 30_000, headers: { authorization: `Bearer ${process.env.HADES_TOKEN}` } },
  })
  const control = await api.init()
  await control.addHost(null, host)
  await control.putSetup(null, { xml: setupXml })
  const { data: planned } = await control.planRollout(null, { nodeset: host.name, setup })
  console.log(`can start: ${planned.plan.canStart ? 'yes' : 'no'}`)

  // With the key, a start whose answer was lost may be sent again: it is the same rollout.
  const once = { 'Idempotency-Key': `rollout-of-${host.name}` }
  let rollout
  for (let time = 1; time <= 2; time++) {
    const { data: started } = await control.startRollout(once, { nodeset: host.name, setup })
    rollout = started.rollout
    console.log(`rollout: ${rollout.id}`)
  }
  for (let poll = 0; poll < pollsMax && !rollout.endedAt; poll++) {
    await sleep(poll < 50 ? 100 : 1000)
    const { data: now } = await control.getRollout({ rollout: rollout.id })
    rollout = now.rollout
  }
  for (const { id, host: name, state } of rollout.deployments) {
    console.log(`${name}: ${state}`)
    if (state !== 'done') continue
    // As `hades proof verify` takes it from a file.
    const { data: proof } = await control.getProof({ deployment: id })
    const { document, signature, publicKey } = proof
    console.log(JSON.stringify({ proof: JSON.parse(document), signature, publicKey }))
  }
  return rollout.endedAt && rollout.deployments.every(({ state }) => state === 'done') ? 0 : 1
}

try {
  process.exitCode = await roll(process.argv[2], JSON.parse(await text(process.stdin)))
} catch (error) {
  // A failure of the service has a code, sentences and a remedy in the body; others are of axios or the network.
  const failure = error.response?.data
  console.error(failure?.code ? `${[failure.code, ...failure.message].join(': ')} (${failure.remedy})` : String(error))
  process.exitCode = 2
}
