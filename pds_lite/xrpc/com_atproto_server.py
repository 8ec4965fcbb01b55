"""com.atproto.server.*: what this server is, sessions, the account's life, app passwords, service tokens.

Handlers only translate: lexicon input to service calls, and rows to lexicon output. Who may call is in the decorator;
what it means is in services/{sessions,account,sign_up,service_auth}.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pds_lite.errors import BadInput, NotFound
from pds_lite.services.access import ANY_SCOPE, HANDLER_ASKS, Access
from pds_lite.services.account_status import account_status
from pds_lite.services.bundle import Services
from pds_lite.services.commit_clock import iso_time
from pds_lite.services.sessions import TokenPair
from pds_lite.services.sign_in import Caller
from pds_lite.services.sign_up import NewAccount
from pds_lite.services.takedowns import TAKEN_DOWN
from pds_lite.xrpc.router import Call, procedure, query

_NS = "com.atproto.server."


@query(_NS + "describeServer", access=Access.PUBLIC)
async def describe_server(services: Services, _call: Call) -> dict[str, Any]:
    """What this server is and allows."""
    config = services.config
    links = {"privacyPolicy": config.privacy_policy_url, "termsOfService": config.terms_of_service_url}
    return {
        "did": config.service_did,
        "availableUserDomains": [".test"] if config.dev else [],
        "inviteCodeRequired": services.sign_up.needs_code,
        "phoneVerificationRequired": False,
        "blobUploadLimit": config.blob_limit,
        "links": {name: url for name, url in links.items() if url},
        "contact": {"email": config.contact_email} if config.contact_email else {},
    }


@procedure(_NS + "createSession", access=Access.PUBLIC)
async def create_session(services: Services, call: Call) -> dict[str, Any]:
    """Signs in with the password (and a code, where there is a second factor) or an app password."""
    given = call.input
    client = call.headers.get("user-agent", "")
    login = await services.sign_in.check(
        Caller("app", call.client, client),
        given["identifier"],
        given["password"],
        given.get("authFactorToken"),
        allow_takendown=given.get("allowTakendown", False),
    )
    account = services.account.require()
    tokens = await services.sessions.open(
        account.did, login.app_password, login.privileged, client, taken_down=account.status == TAKEN_DOWN
    )
    return _session(services, tokens)


@procedure(_NS + "refreshSession", access=Access.REFRESH)
async def refresh_session(services: Services, call: Call) -> dict[str, Any]:
    """Spends a refresh token for a new pair."""
    return _session(services, await services.sessions.refresh(call.principal))


@procedure(_NS + "deleteSession", access=Access.REFRESH_EXPIRED)
async def delete_session(services: Services, call: Call) -> None:
    """Ends the session of a refresh token, expired ones too."""
    await services.sessions.end(call.principal.session_id)


@query(_NS + "getSession", access=Access.SESSION, oauth=ANY_SCOPE)
async def get_session(services: Services, call: Call) -> dict[str, Any]:
    """The account behind an access token; its e-mail address only for apps that may read it."""
    answer = _session(services, None)
    if not call.principal.allows_account("email", "read"):
        for name in ("email", "emailConfirmed", "emailAuthFactor"):
            answer.pop(name, None)
    return answer


@procedure(_NS + "createAccount", access=Access.OPTIONAL_SERVICE)
async def create_account(services: Services, call: Call) -> dict[str, Any]:
    """The first account: a new DID, or one that moves in with a service JWT of its own."""
    given = call.input
    wanted = NewAccount(
        handle=given["handle"],
        password=given.get("password", ""),
        email=given.get("email", ""),
        did=given.get("did"),
        recovery_key=given.get("recoveryKey"),
    )
    if "plcOp" in given:
        raise BadInput('Unsupported input: "plcOp"')
    services.sign_up.check_request(given.get("inviteCode"))
    if wanted.did is not None:
        account = await services.sign_up.move_in(wanted, call.principal.did)
    else:
        account = await services.sign_up.create(wanted, publish=True)
        services.crawlers.ask_now()
    tokens = await services.sessions.open(account.did, None, True)
    answer = {
        "accessJwt": tokens.access_jwt,
        "refreshJwt": tokens.refresh_jwt,
        "handle": account.handle,
        "did": account.did,
    }
    document = services.account.did_document()
    return answer if document is None else {**answer, "didDoc": document}


@query(_NS + "checkAccountStatus", access=Access.SESSION, oauth=ANY_SCOPE)
async def check_account_status(services: Services, _call: Call) -> dict[str, Any]:
    """Counts for migration tools."""
    valid_did = await services.account.did_document_leads_here()
    counted = await asyncio.to_thread(account_status, services.store)
    return {"activated": services.account.active, "validDid": valid_did, **counted}


@procedure(_NS + "activateAccount", access=Access.OWNER)
async def activate_account(services: Services, _call: Call) -> None:
    """Makes the account speak from here."""
    await services.account.activate()
    services.crawlers.ask_now()


@procedure(_NS + "deactivateAccount", access=Access.OWNER, oauth="account:status?action=manage")
async def deactivate_account(services: Services, _call: Call) -> None:
    """Stops the account here."""
    await services.account.deactivate()


@procedure(_NS + "createAppPassword", access=Access.OWNER)
async def create_app_password(services: Services, call: Call) -> dict[str, Any]:
    """A new app password, shown this once."""
    privileged = bool(call.input.get("privileged", False))
    row, text = await services.account.create_app_password(call.input["name"], privileged=privileged)
    return {"name": row.name, "password": text, "createdAt": iso_time(row.created_us), "privileged": row.privileged}


@query(_NS + "listAppPasswords", access=Access.OWNER)
async def list_app_passwords(services: Services, _call: Call) -> dict[str, Any]:
    """Names and dates, newest first."""
    rows = reversed(services.account.list_app_passwords())
    return {
        "passwords": [
            {"name": row.name, "createdAt": iso_time(row.created_us), "privileged": row.privileged} for row in rows
        ]
    }


@procedure(_NS + "revokeAppPassword", access=Access.OWNER)
async def revoke_app_password(services: Services, call: Call) -> None:
    """Ends an app password and its sessions."""
    await services.account.revoke_app_password(call.input["name"])


@query(_NS + "getServiceAuth", access=Access.SESSION, oauth=HANDLER_ASKS)
async def get_service_auth(services: Services, call: Call) -> dict[str, Any]:
    """A short token for another service."""
    params = call.params
    token = services.service_auth.mint_for_client(call.principal, params["aud"], params.get("lxm"), params.get("exp"))
    return {"token": token}


def _session(services: Services, tokens: TokenPair | None) -> dict[str, Any]:
    """What clients keep of a session; getSession answers the same without tokens."""
    account = services.account.account
    if account is None:
        raise NotFound("this server has no account", error="AccountNotFound")
    answer: dict[str, Any] = {
        "did": account.did,
        "handle": account.handle,
        "emailConfirmed": account.email_confirmed,
        "emailAuthFactor": services.second_factor.required,  # what makes clients ask for a code
        "active": account.status == "active",
    }
    if account.email:
        answer["email"] = account.email
    if account.status != "active":
        answer["status"] = account.status
    document = services.account.did_document()
    if document is not None:
        answer["didDoc"] = document
    if tokens is not None:
        answer["accessJwt"] = tokens.access_jwt
        answer["refreshJwt"] = tokens.refresh_jwt
    return answer
