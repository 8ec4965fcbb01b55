"""Signing in: the one door for createSession, the account page and OAuth's page.

It joins what each step knows: rate limits and throttle (how often), the account (password), the second factor (code),
and the log (who tried, and why not). App passwords pass without a second factor, and only where apps sign in.

Rules that hold here
- What is wrong is told to the owner in the log, exactly; to whoever tries, only that it is wrong.
- Without a right password nobody learns that there is a second factor.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.errors import RateLimited, Unauthorized
from pds_lite.services.takedowns import require_not_taken_down

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.services.account import Accounts, Login
    from pds_lite.services.rate_limits import RateLimits
    from pds_lite.services.second_factor import SecondFactor
    from pds_lite.services.sign_in_log import SignInLog
    from pds_lite.services.throttle import Throttle

CODE_NEEDED = "AuthFactorTokenRequired"
"""The lexicon's error: the password is right, a code is needed."""
CODE_WRONG = "InvalidToken"
CODE_WAIT_S = 300.0
MAX_CODE_WAITS = 32
"""Browsers that have shown the right password and are asked for a code."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who tries: `way` is "app", "page" or "oauth", `client` the User-Agent or the OAuth client_id."""

    way: str
    address: str
    client: str


class SignIn:
    """Judges whoever wants in."""

    def __init__(
        self,
        accounts: Accounts,
        limits: RateLimits,
        throttle: Throttle,
        second_factor: SecondFactor,
        log: SignInLog,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._limits = limits
        self._throttle = throttle
        self._second_factor = second_factor
        self._clock = clock
        self._code_waits: OrderedDict[str, float] = OrderedDict()
        self.log = log

    async def check(
        self, caller: Caller, name: str, password: str, code: str | None, *, allow_takendown: bool = True
    ) -> Login:
        """Lets somebody in by password and, where there is a second factor, a code; the attempt is in the log.

        Raises Unauthorized (AuthFactorTokenRequired when only the code is missing, InvalidToken when it is wrong,
        AccountTakedown), RateLimited.
        """
        try:
            self._limits.check_login(name, caller.address)
            login = await self._accounts.log_in(name, password, lambda: self._throttle.take_password(caller.address))
            if login.app_password is not None and caller.way != "app":
                raise Unauthorized(
                    "An app password cannot be used here", hint="An app password was typed where the password belongs"
                )
            if login.app_password is None and self._second_factor.required:
                await self._check_code(caller, code)
            if not allow_takendown:
                require_not_taken_down(self._accounts.require())
        except (Unauthorized, RateLimited) as problem:
            self.log.refused(caller.way, caller.client, caller.address, name, problem.hint or problem.message)
            raise
        if login.app_password is None:
            self.welcome(caller)
        else:
            client = f"{caller.client} by the app password “{login.app_password}”".strip()
            handle = self._accounts.require().handle
            self.log.let_in(caller.way, client, caller.address, handle, by_owner=False)
        return login

    async def check_page(self, caller: Caller, browser: str, name: str, password: str, code: str) -> None:
        """As `check`, in two steps of one browser: name and password first, then, when AuthFactorTokenRequired was
        raised, only the code. `browser` is the id of the browser that sends the form.
        """
        if code and self._code_waits.get(browser, 0.0) > self._clock.monotonic():
            await self._finish(caller, browser, code)
            return
        try:
            await self.check(caller, name, password, code)
        except Unauthorized as problem:
            if problem.error in (CODE_NEEDED, CODE_WRONG):
                self._code_waits[browser] = self._clock.monotonic() + CODE_WAIT_S
                while len(self._code_waits) > MAX_CODE_WAITS:
                    self._code_waits.popitem(last=False)
            raise

    async def _finish(self, caller: Caller, browser: str, code: str) -> None:
        handle = self._accounts.require().handle
        try:
            await self._check_code(caller, code)
        except (Unauthorized, RateLimited) as problem:
            self.log.refused(caller.way, caller.client, caller.address, handle, problem.hint or problem.message)
            raise
        self._code_waits.pop(browser, None)
        self.welcome(caller)

    def awaits_code(self, browser: str) -> bool:
        """Whether this browser has shown the right password and owes the code."""
        return self._code_waits.get(browser, 0.0) > self._clock.monotonic()

    def welcome(self, caller: Caller) -> None:
        """Notes in the log that the owner is in, by whatever proof."""
        self._throttle.give_back(caller.address)
        self.log.let_in(caller.way, caller.client, caller.address, self._accounts.require().handle)

    async def confirm(self, caller: Caller, password: str) -> None:
        """Asks somebody who is signed in for the password once more. Raises as `check`."""
        account = self._accounts.require()
        try:
            login = await self._accounts.log_in(
                account.did, password, lambda: self._throttle.take_password(caller.address)
            )
            if login.app_password is not None:
                raise Unauthorized("The password is not right", hint="An app password was typed to confirm a change")
        except (Unauthorized, RateLimited) as problem:
            self.log.refused(caller.way, caller.client, caller.address, account.handle, problem.hint or problem.message)
            raise
        self._throttle.give_back(caller.address)

    async def _check_code(self, caller: Caller, code: str | None) -> None:
        if not code or not code.strip():
            raise Unauthorized(
                "A sign in code is needed: from your authenticator app",
                error=CODE_NEEDED,
                hint="The password was right; the code of the second factor was still to come",
            )
        self._throttle.take_code(caller.address)
        if not await self._second_factor.check(code):
            raise Unauthorized(
                "Token is invalid",  # the words the Bluesky app looks for
                error=CODE_WRONG,
                status=400,
                hint="The password was right, the code was not (or it was used before)",
            )
