"""The control socket: private, one command a connection, bodies both ways, and every failure answered."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pds_lite.box.control import SOCKET_NAME, Channel, ControlServer, RefusedByDaemon, ask
from pds_lite.errors import NotFound, Unavailable


async def echo(parameters: Mapping[str, Any], channel: Channel) -> Any:
    size = 0
    async for piece in channel.body:
        size += len(piece)
        await channel.send(piece)
    return {"said": parameters.get("say"), "size": size}


async def refuse(_parameters: Mapping[str, Any], _channel: Channel) -> Any:
    raise NotFound("nothing here", error="NoSuchThing", hint="look elsewhere")


async def stumble(_parameters: Mapping[str, Any], _channel: Channel) -> Any:
    raise ZeroDivisionError


async def read_nothing(_parameters: Mapping[str, Any], _channel: Channel) -> Any:
    return "done"


COMMANDS = {"echo": echo, "refuse": refuse, "stumble": stumble, "ignore": read_nothing}


def with_server(folder: Path, *requests: Any) -> Any:
    """What `ask` gives for the last of these (request, body) pairs."""
    folder.mkdir(parents=True, exist_ok=True)

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 100_000

    async def session() -> Any:
        server = ControlServer(folder, COMMANDS)
        await server.start()
        try:
            assert (folder / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
            answer: Any = None
            for request, count in requests:
                received: list[bytes] = []
                answer = await ask(folder, request, pieces(count), received.append)
                answer = (answer, sum(map(len, received)))
            return answer
        finally:
            await server.stop()

    return asyncio.run(session())


def test_a_command_gets_its_parameters_and_both_bodies(tmp_path: Path) -> None:
    answer = with_server(tmp_path, ({"command": "echo", "say": "hello"}, 50))

    assert answer == ({"said": "hello", "size": 5_000_000}, 5_000_000)


def test_the_socket_may_lie_deeper_than_a_socket_address_is_long(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100) / ("b" * 100)

    assert with_server(deep, ({"command": "echo", "say": 1}, 0)) == ({"said": 1, "size": 0}, 0)


def test_a_refusal_keeps_its_name_and_hint(tmp_path: Path) -> None:
    with pytest.raises(RefusedByDaemon) as refused:
        with_server(tmp_path, ({"command": "refuse"}, 0))

    assert (refused.value.error, refused.value.message, refused.value.hint) == (
        "NoSuchThing",
        "nothing here",
        "look elsewhere",
    )


def test_a_fault_is_logged_and_answered_without_its_insides(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RefusedByDaemon, match="its log says where"):
        with_server(tmp_path, ({"command": "stumble"}, 0))

    assert "ZeroDivisionError" in caplog.text


def test_unknown_commands_are_refused_and_unread_bodies_harm_nobody(tmp_path: Path) -> None:
    with pytest.raises(RefusedByDaemon, match="another version"):
        with_server(tmp_path, ({"command": "nonsense"}, 0))
    assert with_server(tmp_path, ({"command": "ignore"}, 3), ({"command": "echo", "say": 2}, 1))[0]["said"] == 2


def test_without_a_daemon_there_is_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(ask(tmp_path, {"command": "echo"}))
    (tmp_path / SOCKET_NAME).write_text("left behind")
    assert with_server(tmp_path, ({"command": "echo", "say": 3}, 0))[0]["said"] == 3


def test_a_daemon_that_ends_in_mid_answer_is_said(tmp_path: Path) -> None:
    async def session() -> None:
        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_unix_server(hang_up, tmp_path / SOCKET_NAME)
        try:
            with pytest.raises(Unavailable):
                await ask(tmp_path, {"command": "echo"})
        finally:
            server.close()

    asyncio.run(session())
