#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Changes a port group's VLAN over a plain NATS connection, as the nats command
line would: JSON text, no headers, with the server and key of its context.

    ops/inject.py CONTEXT HOSTS VLAN

Fails unless HOSTS hosts, and no fewer, have applied it.
"""

import asyncio
import json
import sys

import nats


async def main(context_file: str, hosts: int, vlan: int) -> str | None:
    with open(context_file, encoding="utf-8") as file:
        context = json.load(file)
    connection = await nats.connect(context["url"], nkeys_seed=context["nkey"])
    document = {
        "kind": "PortGroup",
        "name": "web",
        "switch": "prod",
        "policy": {"vlan": {"access": vlan}},
        "wait": "applied",
        "timeout": "30s",
    }
    reply = await connection.request("dvs.v1.config.apply", json.dumps(document).encode(), timeout=40)
    await connection.close()
    print(reply.data.decode())
    applied = json.loads(reply.data).get("applied") or {}
    if (applied.get("hosts"), applied.get("applied")) != (hosts, hosts):
        return f"not all of {hosts} hosts have applied it"
    return None


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
