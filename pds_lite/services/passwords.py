"""Passwords, and the other secrets a person types: hashed by argon2id, or made here.

One hash takes 19 MiB and a good part of a second of a small board, so all of them share one thread and a short queue:
that many people cannot sign in at once here, and memory stays bounded even when a caller gives up waiting. The cost is
the board's (`set_cost`); a hash names its own, so a stronger one applies to passwords as they are set anew.
"""

import asyncio
import re
import secrets
from base64 import b32encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import TypeVar

from nacl.exceptions import InvalidkeyError
from nacl.pwhash import argon2id

from pds_lite import cores
from pds_lite.errors import BadInput, ConfigError, Unavailable

T = TypeVar("T")

MAX_PASSWORD_BYTES = 2048
MAX_WAITING = 16
FLOOR = (19, 2)
"""MiB and passes: the least that OWASP calls sufficient."""

_APP_PASSWORD = re.compile(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){3}")
_places = BoundedSemaphore(MAX_WAITING)
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2id", initializer=cores.roam)


@dataclass(slots=True)
class _Cost:
    memory_mb: int = FLOOR[0]
    passes: int = FLOOR[1]


_cost = _Cost()


def set_cost(memory_mb: int, passes: int) -> None:
    """The cost of hashes made from now on, from the board's limits. Raises ConfigError below 19 MiB and 2 passes."""
    if memory_mb < FLOOR[0] or passes < FLOOR[1]:
        raise ConfigError(f"argon2id needs at least {FLOOR[0]} MiB and {FLOOR[1]} passes")
    _cost.memory_mb, _cost.passes = memory_mb, passes


async def hash_password(password: str) -> str:
    """The argon2id hash of `password` in its text form, salt and cost included. Raises BadInput, Unavailable."""
    secret, memory, passes = _encode(password), _cost.memory_mb << 20, _cost.passes
    digest = await _in_thread(lambda: argon2id.str(secret, opslimit=passes, memlimit=memory))
    return digest.decode("ascii")


async def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether `password` made `password_hash`, in the same time either way.

    None is the hash of an account that does not exist: it costs as much and is never right, so that nobody learns from
    the clock which names there are. Raises BadInput for an overlong password, Unavailable when too many wait.
    """
    secret, memory, passes = _encode(password), _cost.memory_mb << 20, _cost.passes
    if password_hash is None:
        await _in_thread(lambda: argon2id.kdf(32, secret, bytes(16), opslimit=passes, memlimit=memory))
        return False
    known = password_hash.encode("ascii")
    return await _in_thread(lambda: _verify(known, secret))


def make_password() -> str:
    """A random password of 100 bits: four groups of five letters and digits, so that it is no app password."""
    return _groups(4, 5)


def make_app_password() -> str:
    """xxxx-xxxx-xxxx-xxxx, 80 random bits, as clients recognise it."""
    return _groups(4, 4)


def is_app_password(text: str) -> bool:
    """Whether `text` has the form of an app password."""
    return _APP_PASSWORD.fullmatch(text) is not None


def make_code() -> str:
    """XXXXX-XXXXX, 50 random bits: a code that its owner copies once, for a short time."""
    return _groups(2, 5).upper()


def _groups(count: int, letters: int) -> str:
    text = b32encode(secrets.token_bytes(20)).decode("ascii").lower()
    return "-".join(text[start : start + letters] for start in range(0, count * letters, letters))


def _verify(known: bytes, secret: bytes) -> bool:
    try:
        return argon2id.verify(known, secret)
    except InvalidkeyError:
        return False


def _encode(password: str) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    if len(secret) > MAX_PASSWORD_BYTES:
        raise BadInput(f"a password has at most {MAX_PASSWORD_BYTES} bytes")
    return secret


async def _in_thread(work: Callable[[], T]) -> T:
    """Runs `work` after those already waiting. Its place is free when it has ended, not when its caller has left."""
    if not _places.acquire(blocking=False):
        raise Unavailable("too many passwords are being checked; try again in a few seconds")
    try:
        future = _thread.submit(work)
    except RuntimeError:
        _places.release()
        raise Unavailable("the server is stopping") from None
    future.add_done_callback(lambda _: _places.release())
    return await asyncio.wrap_future(future)
