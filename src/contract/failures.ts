// What each failure code means to whoever meets it: HTTP status, SOAP fault side, CLI exit code, whether asking again
// can help, and what the operator does. The only place that picks any of these.
import type { FailureCode } from '../model/failure.ts'

export type FailureMeaning = {
  readonly status: number
  /** Whose fault a SOAP fault names: the sender's message, or the receiver's world. */
  readonly fault: 'sender' | 'receiver'
  readonly exit: number
  /** True when the same call can succeed later without anyone changing anything. */
  readonly retry: boolean
  readonly remedy: string
}

const sender = (status: number, exit: number, remedy: string): FailureMeaning => ({
  status,
  fault: 'sender',
  exit,
  retry: false,
  remedy,
})
const receiver = (status: number, exit: number, retry: boolean, remedy: string): FailureMeaning => ({
  status,
  fault: 'receiver',
  exit,
  retry,
  remedy,
})

export const failureMeanings: Readonly<Record<FailureCode, FailureMeaning>> = {
  'bad-input': sender(400, 2, 'Correct the field that the message names.'),
  unauthorized: sender(
    401,
    3,
    'Log in with `hades login`, or give a token; on the service itself, use the socket of its data folder.',
  ),
  forbidden: sender(403, 3, 'Ask an administrator for the role or the token that the message names.'),
  'too-many-attempts': { ...sender(429, 3, 'Wait, and correct the name, password or token.'), retry: true },
  'unknown-operation': sender(404, 2, 'Look the operation up in the WSDL or the OpenAPI document.'),
  'too-large': sender(413, 2, 'Send less in one request.'),
  'unknown-host': sender(404, 4, 'List the hosts; add the host first.'),
  'unknown-setup': sender(404, 4, 'List the setups; put the setup first.'),
  'unknown-script': sender(404, 4, 'List the scripts; put the script first.'),
  'unknown-image': sender(404, 4, 'List the images; publish the image first.'),
  'unknown-deployment': sender(404, 4, 'List the rollouts to find the number of the deployment.'),
  'unknown-rollout': sender(404, 4, 'List the rollouts.'),
  'unknown-task': sender(404, 4, 'The task was never started here; start the operation again.'),
  'unknown-profile': sender(404, 4, 'List the netboot profiles; put the profile first.'),
  'unknown-webhook': sender(404, 4, 'List the webhooks; put the webhook first.'),
  'unknown-delivery': sender(404, 4, 'List the dead deliveries; this one may have been delivered since.'),
  'unknown-machine': sender(404, 4, 'List the discovered machines; one that is a host is none of them.'),
  'unknown-driver': sender(400, 2, 'List the power drivers.'),
  'unknown-user': sender(404, 4, 'List the users; add the user first.'),
  'unknown-token': sender(404, 4, 'List the tokens; it may be revoked already.'),
  'already-exists': sender(409, 5, 'Choose another name, or change or remove the one there is.'),
  'wrong-state': sender(409, 5, 'Wait until what is under way has ended, or cancel it.'),
  'in-use': sender(409, 5, 'Remove or end what uses it first; the message names it.'),
  'host-protected': sender(
    409,
    5,
    'Leave the host out, or name it with --include-protected (includeProtected) if it is really meant.',
  ),
  'confirm-needed': sender(428, 2, 'Confirm with --confirm (confirm) what the message names, if all of it is meant.'),
  'setup-invalid': sender(400, 2, 'Correct the setup at the line that the message names.'),
  'image-broken': receiver(422, 6, false, 'Make the image file again or copy it again; it is damaged or incomplete.'),
  'image-too-large': receiver(422, 6, false, 'Choose a larger disk or a smaller image.'),
  'image-corrupt': receiver(
    502,
    6,
    false,
    'The image on the server is damaged: publish it again. The disk was not made bootable.',
  ),
  'disk-none': receiver(422, 6, false, "Compare the setup's disk hints with the host's inventory."),
  'disk-ambiguous': receiver(422, 6, false, "Add a hint to the setup's disk until exactly one disk fits."),
  'disk-changed': receiver(
    422,
    6,
    false,
    'Make sure that it is the right disk; then deploy once with --accept-new-disk (acceptNewDisk).',
  ),
  'disk-error': receiver(502, 6, false, "Read the agent's log; test the disk, replace it."),
  'post-install-failed': receiver(
    422,
    6,
    false,
    "The disk holds the images, read back, but the system on it is not finished: correct the setup's post-install or the image that the message names, and deploy again.",
  ),
  'delivery-failed': receiver(502, 7, true, 'Look at the receiver of the webhook: the message has its answer.'),
  'library-full': receiver(507, 6, false, 'Free space in the image library of the data folder.'),
  'origin-unreachable': receiver(504, 6, true, 'Check the network between the host and the origin.'),
  'origin-error': receiver(502, 6, true, "Read the origin's answer in the message; check the image library."),
  'bmc-unreachable': receiver(504, 7, true, "Check the controller's address, its cabling and its power."),
  'bmc-refused': receiver(
    502,
    7,
    false,
    'Correct the user, password or options of the power method; it was tried once.',
  ),
  'bmc-lies': receiver(502, 7, true, 'Look at the machine itself; reset its controller; try another power method.'),
  'no-power-method': receiver(422, 7, false, 'Give the host a power method; `manual` will do.'),
  'boot-timeout': receiver(504, 8, true, "Read the host's events: the message names the last one that was seen."),
  'agent-silent': receiver(504, 8, true, "Read the host's console and its events."),
  'agent-too-old': sender(
    409,
    8,
    'Build the scout anew from the version that the service has, and deploy again: the agent comes with it.',
  ),
  'token-refused': sender(
    403,
    3,
    'The machine must boot anew; a token serves one agent, once, while its deployment runs.',
  ),
  'probe-timeout': receiver(
    504,
    8,
    false,
    "The disk is proven, but the new system was not seen: read the host's console.",
  ),
  deadline: receiver(504, 8, true, 'Find what was slow in the events; give the setup more time.'),
  cancelled: receiver(409, 9, false, 'Somebody cancelled it.'),
  'service-unreachable': receiver(
    503,
    10,
    true,
    'Start the service with `hades up`, or say where it is with --server.',
  ),
  'database-unavailable': receiver(
    503,
    11,
    true,
    'The message says what the database lacks: start it, free its disk, correct its address, user or password. The service goes on by itself.',
  ),
  'database-newer': receiver(503, 11, false, 'Run the version of HaDeS that has used it, or restore a backup.'),
  internal: receiver(500, 70, false, 'This is a defect of HaDeS: report it with the lines of the log.'),
}
