"""Calls operations through python3-zeep. Arguments: base URL, token, SOAP version (1.1 or 1.2).

Reads a JSON list of {"port", "operation", "input"} from standard input and prints a JSON list of what came back:
{"output": ...} or {"fault": {"code", "message", "detail"}}.
"""
import datetime
import json
import sys

import requests
import zeep
from zeep.helpers import serialize_object
from zeep.transports import Transport

base, token, version = sys.argv[1:4]
suffix = "Soap11" if version == "1.1" else "Soap12"
session = requests.Session()
session.auth = ("zeep", token)
clients = {}


def service(port):
    if port not in clients:
        clients[port] = zeep.Client(f"{base}/{port}?wsdl", transport=Transport(session=session))
    name = f"{port.capitalize()}Port"
    return clients[port], clients[port].bind(name, name + suffix)


def plain(value):
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise TypeError(type(value))


def given(fields):
    """A list of one null is the empty list, which zeep writes as one nil element if it is given Nil for it."""
    return {name: zeep.xsd.Nil if value == [None] else value for name, value in fields.items()}


results = []
for case in json.load(sys.stdin):
    client, bound = service(case["port"])
    try:
        output = serialize_object(bound[case["operation"]](**given(case["input"])), dict)
        results.append({"output": output})
    except zeep.exceptions.Fault as fault:
        detail = fault.detail
        if detail is not None and len(detail):
            element = client.get_element(f"{{urn:hades:{case['port']}:1}}failure")
            detail = serialize_object(element.parse(detail[0], client.wsdl.types), dict)
        results.append({"fault": {"code": str(fault.code), "message": fault.message, "detail": detail}})
print(json.dumps(results, default=plain))
