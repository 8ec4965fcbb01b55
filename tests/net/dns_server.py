"""A DNS server for tests: answers TXT questions over UDP from a table, on a port of the system's choice."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENT = None
"""In place of records: no answer at all."""


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, table: Mapping[str, list[str] | str | None], asked: list[str]) -> None:
        self._table = table
        self._asked = asked

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, address):
        query = dns.message.from_wire(data)
        name = query.question[0].name
        key = name.to_text(omit_final_dot=True)
        self._asked.append(key)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        records = self._table.get(key, "NXDOMAIN")
        if records is SILENT:
            return
        if isinstance(records, str):
            response.set_rcode(dns.rcode.from_text(records))
        elif records:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *records))
        self._transport.sendto(response.to_wire(), address)


@asynccontextmanager
async def dns_server(table: Mapping[str, list[str] | str | None]) -> AsyncIterator[tuple[str, list[str]]]:
    """("127.0.0.1:port", names asked for) while it runs. A table value is TXT texts, an rcode's name, or SILENT."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Protocol(table, asked), local_addr=("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}", asked
    finally:
        transport.close()


@contextmanager
def dns_thread(table: Mapping[str, list[str] | str | None]) -> Iterator[str]:
    """The address of such a server in a thread of its own, for tests without an event loop. `table` may change."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    transport, _ = asyncio.run_coroutine_threadsafe(
        loop.create_datagram_endpoint(lambda: _Protocol(table, []), local_addr=("127.0.0.1", 0)), loop
    ).result(60)
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_close(transport), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(transport: asyncio.DatagramTransport) -> None:
    transport.close()
    await asyncio.sleep(0)  # the transport lets go of its socket in a callback
