"""A box on a test LAN, run inside a network namespace:  lan_box.py announce SEED DID HANDLE | discover SECONDS

`announce` prints its host name whenever it changes and says goodbye when its standard input closes.
`discover` prints what it finds as JSON.
"""

import asyncio
import dataclasses
import hashlib
import sys

from pds_lite import ujson
from pds_lite.atproto.crypto.ed25519 import Ed25519Key
from pds_lite.box import mdns
from pds_lite.box.mdns_claim import Claim


def key_of(seed: str) -> Ed25519Key:
    return Ed25519Key.from_bytes(hashlib.sha256(seed.encode()).digest())


async def announce(seed: str, did: str, handle: str) -> None:
    key = key_of(seed)
    announcer = mdns.Announcer(lambda: Claim(did, handle, "0.0"), 2583, key.public_key, key.sign, watch_seconds=1)
    announcer.start()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    said = ""
    while not ended.done():
        if announcer.host and announcer.host != said:
            said = announcer.host
            print(said, flush=True)
        await asyncio.sleep(0.05)
    await announcer.stop()
    print("bye", flush=True)


async def discover(seconds: str) -> None:
    print(ujson.dumps([dataclasses.asdict(box) for box in await mdns.discover(float(seconds))]))


if __name__ == "__main__":
    command = {"announce": announce, "discover": discover}[sys.argv[1]]
    asyncio.run(command(*sys.argv[2:]))
