"""com.atproto.server.*, second part: what is confirmed by a code, and invitations.

Handlers only translate; the rules are in services/{account_flows,codes,sign_up}. App passwords get none of it.
"""

from __future__ import annotations

from typing import Any

from pds_lite.atproto.syntax import is_did
from pds_lite.errors import BadInput
from pds_lite.services import passwords
from pds_lite.services.access import Access
from pds_lite.services.bundle import Services
from pds_lite.services.codes import Purpose
from pds_lite.services.sign_in import Caller
from pds_lite.xrpc.router import Call, procedure, query

_NS = "com.atproto.server."
_EMAIL = "account:email?action=manage"


@procedure(_NS + "requestEmailConfirmation", access=Access.OWNER, oauth=_EMAIL)
async def request_email_confirmation(services: Services, _call: Call) -> None:
    """A code to the account's address."""
    await services.flows.request_confirmation()


@procedure(_NS + "confirmEmail", access=Access.OWNER, oauth=_EMAIL)
async def confirm_email(services: Services, call: Call) -> None:
    """The address is the owner's."""
    await services.flows.confirm_email(call.input["email"], call.input["token"])


@procedure(_NS + "requestEmailUpdate", access=Access.OWNER)
async def request_email_update(services: Services, _call: Call) -> dict[str, Any]:
    """A code, if the present address is confirmed."""
    return {"tokenRequired": await services.flows.request_email_update()}


@procedure(_NS + "updateEmail", access=Access.OWNER)
async def update_email(services: Services, call: Call) -> None:
    """Another address. A second factor by mail, which this method switches too, is not had here: saying yes to it would
    leave somebody believing in it.
    """
    factor = call.input.get("emailAuthFactor")
    if factor not in (None, services.second_factor.required):
        page = f"{services.config.public_url}/account"
        raise BadInput(f"The second factor is switched on and off on your account page: {page}")
    await services.flows.update_email(call.input["email"], call.input.get("token"))


@procedure(_NS + "requestPasswordReset", access=Access.PUBLIC)
async def request_password_reset(services: Services, call: Call) -> None:
    """A code, if the address is the account's; the answer does not tell."""
    await services.flows.request_password_reset(call.input["email"])


@procedure(_NS + "resetPassword", access=Access.PUBLIC)
async def reset_password(services: Services, call: Call) -> None:
    """Another password; every session ends."""
    await services.flows.reset_password(call.input["token"], call.input["password"])


@procedure(_NS + "requestAccountDelete", access=Access.OWNER)
async def request_account_delete(services: Services, _call: Call) -> None:
    """A code for deleteAccount."""
    await services.flows.request(Purpose.DELETE_ACCOUNT)


@procedure(_NS + "deleteAccount", access=Access.PUBLIC)
async def delete_account(services: Services, call: Call) -> None:
    """Deletes the account, by password and code; the password is throttled and logged as at sign-in."""
    given = call.input
    account = services.account.account
    if account is None or account.did != given["did"]:
        raise BadInput("account not found")
    services.limits.check_login(account.did, call.client)
    caller = Caller("app", call.client, call.headers.get("user-agent", ""))
    await services.sign_in.confirm(caller, given["password"])
    await services.flows.delete_account(account.did, given["token"])


@procedure(_NS + "reserveSigningKey", access=Access.PUBLIC)
async def reserve_signing_key(services: Services, call: Call) -> dict[str, Any]:
    """The key that the one account signs with, so that a DID document can be prepared for it."""
    account = services.account.account
    did = (call.input or {}).get("did")
    if account is not None and did not in (None, account.did):
        raise BadInput("this server has its one account already")
    return {"signingKey": services.keys.signing.did_key}


@procedure(_NS + "createInviteCode", access=Access.ADMIN)
async def create_invite_code(services: Services, _call: Call) -> dict[str, Any]:
    """On an empty box: a new claim code, for the account it waits for."""
    return {"code": await _claim_code(services)}


@procedure(_NS + "createInviteCodes", access=Access.ADMIN)
async def create_invite_codes(services: Services, call: Call) -> dict[str, Any]:
    """The same: there is one code, however many are asked for."""
    names = call.input.get("forAccounts") or ["admin"]
    codes = [await _claim_code(services)] if call.input.get("codeCount", 1) > 0 else []
    return {"codes": [{"account": names[0] if is_did(names[0]) else "admin", "codes": codes}]}


@query(_NS + "getAccountInviteCodes", access=Access.OWNER)
async def get_account_invite_codes(_services: Services, _call: Call) -> dict[str, Any]:
    """None: the box has one account."""
    return {"codes": []}


async def _claim_code(services: Services) -> str:
    code = passwords.make_code()
    await services.sign_up.open_claim(code)
    return code
