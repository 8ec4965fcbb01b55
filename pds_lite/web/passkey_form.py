"""Signing in with a passkey, on every page that asks for a password: what the page offers, and what comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pds_lite import ujson
from pds_lite.errors import Unauthorized

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services
    from pds_lite.services.sign_in import Caller

REFUSED = "The passkey was not accepted. Try again, or sign in with your password."


def request_options(services: Services, browser: str) -> str:
    """The options for the page's script as JSON, "" where the account has no passkey."""
    passkeys = services.passkeys()
    return ujson.dumps(passkeys.request_options(browser)) if passkeys.list() else ""


async def check(services: Services, caller: Caller, browser: str, answer: str) -> None:
    """Lets somebody in by what the passkey answered; either way it is in the log. Raises Unauthorized."""
    caller = replace(caller, way="passkey")
    try:
        await services.passkeys().check(browser, answer)
    except Unauthorized as problem:
        services.sign_in.log.refused(caller.way, caller.client, caller.address, "", problem.hint)
        raise Unauthorized(REFUSED) from None
    services.sign_in.welcome(caller)
