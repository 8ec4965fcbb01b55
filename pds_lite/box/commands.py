"""What a person at the box may ask of it: the commands behind `pds-lite status, doctor, account and repo`.

Each is `async (services, parameters, channel) -> JSON value` and runs in the daemon (control.py), or in the command
line's own process when no daemon runs. The fields they answer are the contract of --json. Whoever may open the control
socket may do all of this: it owns the data.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pds_lite import __version__
from pds_lite.atproto.commit import decode_commit
from pds_lite.atproto.syntax import is_plc_did
from pds_lite.box import board, identity_commands, migrate_commands
from pds_lite.box.control import Channel
from pds_lite.box.setup import wait_for_claim
from pds_lite.errors import BadInput, NotFound, PdsError
from pds_lite.services import passwords
from pds_lite.services.commit_clock import iso_time
from pds_lite.services.repo_verify import verify_car
from pds_lite.storage import event_log, repo_store

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services

Parameters = Mapping[str, Any]


async def status(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Identity, repository, stream and board of this box."""
    config = services.config
    account = services.account.account
    head = services.repo.head
    with services.store.read() as txn:
        records = repo_store.record_count(txn)
        last_seq = event_log.last_seq(txn)
    disk = shutil.disk_usage(config.data_dir)
    this_board = board.detect()
    return {
        "version": __version__,
        "pid": os.getpid(),
        "url": config.public_url,
        "service_did": config.service_did,
        "dev": config.dev,
        "data_dir": str(config.data_dir),
        "did": account.did if account else None,
        "handle": account.handle if account else None,
        "account": account.status if account else "none",
        "published": account is not None and account.plc_op is None,
        "rev": head.rev if head else None,
        "commit": str(head.commit) if head else None,
        "records": records,
        "seq": last_seq,
        "subscribers": services.sequencer.subscribers,
        "sessions": len(services.sessions.live()),
        "read_only": services.repo.read_only,
        "plc_watch": identity_commands.watch_view(services),
        "clock_trusted": services.clock.trusted(),
        "fingerprint": services.keys.box.fingerprint,
        "disk_free": disk.free,
        "board": {"id": this_board.id, "name": this_board.name},
        "limits": asdict(this_board.limits),
    }


async def doctor(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """What can be judged from inside the box without reading the whole store."""
    problems = []
    config = services.config
    if shutil.disk_usage(config.data_dir).free < 200 << 20:
        problems.append(("disk_space", "less than 200 MB are free on the disk"))
    if services.repo.read_only is not None:
        problems.append(("read_only", f"the box does not write: {services.repo.read_only}"))
    if not config.dev and not services.clock.trusted():
        text = "nothing confirms the clock (no time server reached, no hardware clock)"
        problems.append(("clock", f"{text}: sudo timedatectl set-ntp true"))
    if services.key_rotation.is_unfinished:
        problems.append(("key_rotation", "a rotation of the signing key is unfinished: pds-lite identity rotate-key"))
    if services.mailer.trouble is not None:
        problems.append(("mail", f"mails do not go out: {services.mailer.trouble}"))
    problems += [("plc_alarm", sentence) for sentence in services.plc_watch.sentences()]
    problems += await _identity_problems(services)
    return {"problems": [{"code": code, "text": text} for code, text in problems]}


async def _identity_problems(services: Services) -> list[tuple[str, str]]:
    config, account = services.config, services.account.account
    if account is None:
        return [("no_account", "there is no account yet: pds-lite account claim-code shows how to begin")]
    if account.plc_op is not None:
        return [] if config.dev else [("unpublished", "the DID is not published yet: pds-lite account publish")]
    problems = []
    # A directory out of reach is told below, where the document is looked at.
    with contextlib.suppress(PdsError):
        if is_plc_did(account.did) and await services.plc.depends_on_box():
            text = "no key but this box's can change your identity: it is lost with the card"
            problems.append(("no_recovery_key", f"{text}: pds-lite identity new-recovery-key"))
    if account.status == "active" and not config.dev:
        if not await services.account.did_document_leads_here():
            problems.append(("did_document", "the DID document does not lead to this box"))
        try:
            # As the world sees it: the box itself always knows its own handle.
            if await services.identity.resolve_handle(account.handle, refresh=True) != account.did:
                problems.append(("handle", f"{account.handle} resolves to another DID"))
        except PdsError as problem:
            problems.append(("handle", f"{account.handle} does not resolve: {problem.message}"))
    return problems


async def account_show(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """The account's row without its secrets."""
    account = services.account.require()
    return {
        "did": account.did,
        "handle": account.handle,
        "email": account.email,
        "email_confirmed": account.email_confirmed,
        "status": account.status,
        "created": iso_time(account.created_us),
        "published": account.plc_op is None,
        "signing_key": services.keys.signing.did_key,
        "rotation_key": services.keys.rotation.did_key,
        "sessions": [
            {
                "app_password": session.app_password,
                "created": iso_time(session.created_us),
                "used": iso_time(session.used_us),
            }
            for session in services.sessions.live()
        ],
    }


async def account_password(services: Services, parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Sets the password given, or a random one that is answered; ends every session."""
    chosen = parameters.get("password")
    password = chosen or passwords.make_password()
    await services.account.set_password(password)
    return {"password": None if chosen else password}


async def account_second_factor_off(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Switches the second factor off: for an owner who has lost the authenticator and the recovery codes."""
    was_on = services.second_factor.required
    await services.second_factor.switch_off()
    return {"second_factor": False, "was_on": was_on}


async def account_codes(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Pending codes: what would otherwise come by e-mail."""
    codes = services.codes.pending()
    return {
        "codes": [{"purpose": code.purpose, "code": code.code, "expires": iso_time(code.expires_us)} for code in codes]
    }


async def account_claim_code(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """A new claim code in place of the one that init printed."""
    prepared = await wait_for_claim(services, with_code=True)
    return {"claim_code": prepared.claim_code}


async def app_password_list(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Names, never the passwords themselves."""
    rows = services.account.list_app_passwords()
    return {
        "app_passwords": [
            {"name": row.name, "privileged": row.privileged, "created": iso_time(row.created_us)} for row in rows
        ]
    }


async def app_password_create(services: Services, parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """A new app password, shown this once."""
    row, text = await services.account.create_app_password(parameters["name"], privileged=parameters["privileged"])
    return {"name": row.name, "password": text, "privileged": row.privileged}


async def app_password_revoke(services: Services, parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Ends an app password and its sessions."""
    name = parameters["name"]
    if all(row.name != name for row in services.account.list_app_passwords()):
        raise BadInput(f"there is no app password named {name!r}", hint="pds-lite account app-passwords")
    await services.account.revoke_app_password(name)
    return {"name": name}


async def account_activate(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Activates and announces the account."""
    await services.account.activate()
    services.crawlers.ask_now()
    return {"status": services.account.require().status}


async def account_deactivate(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Deactivates the account."""
    await services.account.deactivate()
    return {"status": services.account.require().status}


async def account_publish(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Publishes a DID that was made offline."""
    await services.account.publish()
    return {"did": services.account.require().did, "published": True}


async def repo_export(services: Services, _parameters: Parameters, channel: Channel) -> dict[str, Any]:
    """The repository as a CAR, down the channel."""
    size = 0
    async for chunk in services.reader.export_car():
        size += len(chunk)
        await channel.send(chunk)
    return {"bytes": size}


async def repo_import(services: Services, _parameters: Parameters, channel: Channel) -> dict[str, Any]:
    """Replaces the repository by the CAR from the channel."""
    await services.importer.run(channel.body)
    return await repo_verify(services, {}, channel)


async def repo_verify(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Reads the whole repository as a stranger would: every hash, the tree, the signature."""
    account, head = services.account.require(), services.repo.head
    if head is None:
        raise NotFound("there is no repository", error="RepoNotFound")
    did_key = await services.importer.key_of(decode_commit(head.commit_block), is_moving=account.status != "active")
    verified = await verify_car(services.reader.export_car(), account.did, did_key or services.keys.signing.did_key)
    return asdict(verified)


COMMANDS = {
    **identity_commands.COMMANDS,
    **migrate_commands.COMMANDS,
    "status": status,
    "doctor": doctor,
    "account.show": account_show,
    "account.password": account_password,
    "account.second-factor-off": account_second_factor_off,
    "account.codes": account_codes,
    "account.claim-code": account_claim_code,
    "account.app-passwords": app_password_list,
    "account.app-passwords.create": app_password_create,
    "account.app-passwords.revoke": app_password_revoke,
    "account.activate": account_activate,
    "account.deactivate": account_deactivate,
    "account.publish": account_publish,
    "repo.export": repo_export,
    "repo.import": repo_import,
    "repo.verify": repo_verify,
}
