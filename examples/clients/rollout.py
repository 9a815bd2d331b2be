# Adds a host, puts a setup, plans a rollout, starts it, watches it to its end and reads its proof, through the client that zeep
# makes from the WSDL of the Control Port. docs/clients.md says how it is run. Exit code 0: every host is done; 1: not so; 2: a
# call failed.
#   rollout.py <url of the port> <CA file> < order.json
# The order is {"host": input of addHost, "setup": name, "setupXml": text}. HADES_TOKEN is the token, SOAP_VERSION 1.1 or 1.2.
import json
import os
import sys
import time

import requests
import zeep
from zeep.transports import Transport

# More than one watch of a rollout lasts: then something is wrong that this program cannot mend.
POLLS_MAX = 36000


def roll(control, order):
    # zeep gives the only field of an answer itself: the plan, the rollout.
    host, setup = order["host"]["name"], order["setup"]
    control.addHost(**order["host"])
    control.putSetup(xml=order["setupXml"])
    plan = control.planRollout(nodeset=host, setup=setup)
    print("can start:", "yes" if plan.canStart else "no")

    # With the key, a start whose answer was lost may be sent again: it is the same rollout.
    once = {"idempotencyKey": f"rollout-of-{host}"}
    for _ in range(2):
        rollout = control.startRollout(nodeset=host, setup=setup, _soapheaders=once)
        print("rollout:", rollout.id)
    for poll in range(POLLS_MAX):
        if rollout.endedAt:
            break
        time.sleep(0.1 if poll < 50 else 1)
        rollout = control.getRollout(rollout=rollout.id)
    is_done = rollout.endedAt is not None
    for deployment in rollout.deployments:
        print(f"{deployment.host}: {deployment.state}")
        if deployment.state != "done":
            is_done = False
            continue
        # As `hades proof verify` takes it from a file.
        proof = control.getProof(deployment=deployment.id)
        signed = {"proof": json.loads(proof.document), "signature": proof.signature, "publicKey": proof.publicKey}
        print(json.dumps(signed))
    return 0 if is_done else 1


def sentences(client, fault):
    """A failure of the service has a code, sentences and a remedy in the detail of the fault; others are of zeep."""
    if fault.detail is None or not len(fault.detail):
        return str(fault)
    element = client.get_element("{urn:hades:control:1}failure")
    failure = element.parse(fault.detail[0], client.wsdl.types)
    return f"{': '.join([failure.code, *failure.message])} ({failure.remedy})"


def main():
    url, ca_file = sys.argv[1:3]
    order = json.load(sys.stdin)
    session = requests.Session()
    # REQUESTS_CA_BUNDLE of the environment would count for more than the file.
    session.trust_env = False
    session.verify = ca_file
    # The service asks for no particular name: the token tells who it is.
    session.auth = ("zeep", os.environ["HADES_TOKEN"])
    version = os.environ.get("SOAP_VERSION", "1.2").replace(".", "")
    try:
        client = zeep.Client(f"{url}?wsdl", transport=Transport(session=session, timeout=30, operation_timeout=30))
        return roll(client.bind("ControlPort", f"ControlPortSoap{version}"), order)
    except zeep.exceptions.Fault as fault:
        print(sentences(client, fault), file=sys.stderr)
    except (zeep.exceptions.Error, requests.RequestException) as error:
        print(error, file=sys.stderr)
    return 2


sys.exit(main())
