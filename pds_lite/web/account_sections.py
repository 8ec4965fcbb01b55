"""The sections of the account page: what each one shows.

Each is `(visit, problem) -> Response`; nothing here changes anything. Lists are bounded or in pages, so that no page
grows with use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from microdot import Response

from pds_lite import ujson
from pds_lite.atproto.base64url import encode_base64url
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.syntax import is_plc_did
from pds_lite.errors import PdsError
from pds_lite.services.codes import WORDS
from pds_lite.services.second_factor import otpauth_url, secret_text
from pds_lite.services.sessions import scope_of
from pds_lite.services.sign_in_log import ASKING
from pds_lite.services.takedowns import TAKEN_DOWN
from pds_lite.storage import blob_store, oauth_store, repo_store
from pds_lite.web.account_visit import Visit, time_words
from pds_lite.web.pages import page_headers
from pds_lite.web.scope_words import describe

if TYPE_CHECKING:
    from pds_lite.storage.identity_store import PlcAlarm
    from pds_lite.storage.oauth_store import Grant

Row = TypeVar("Row")

ROWS = 50
"""Lines of a long list on one page."""
CARDS = 4
"""The same for cards, on a page that has four lists of them."""
CARD_TEXT = 1000
"""Characters of what an app may do, on its card."""
_SESSION_WORDS = {
    "com.atproto.access": "Everything: it signed in with your password.",
    "com.atproto.appPass": "Read and write everything of yours except direct messages; no account settings.",
    "com.atproto.appPassPrivileged": "Read and write everything of yours, direct messages too; no account settings.",
    "com.atproto.takendown": "Move your account away, since it is taken down.",
}
_WAYS = {"app": "App", "page": "This page", "oauth": "Letting an app in", "passkey": "Passkey", ASKING: "App asking"}
_DONE = {
    "password": "Your password is changed. Every other browser and every app has to sign in again.",
    "revoked": "It is signed out.",
    "app-password-gone": "The app password is gone, and what it signed in is signed out.",
    "factor-off": "The second factor is off.",
    "passkey": "The passkey is added.",
    "passkey-gone": "The passkey is gone.",
    "handle": "Your handle is changed.",
    "email": "Your e-mail address is changed.",
    "confirmed": "Your e-mail address is confirmed.",
    "proved": "Thank you.",
    "active": "Your account is active.",
    "inactive": "Your account is deactivated.",
}


async def show(visit: Visit, name: str, problem: PdsError | None = None) -> Response:
    """The section `name`, with what was wrong with its form."""
    return await (_SECTIONS.get(name) or EXTRA[name])(visit, problem)


async def _overview(visit: Visit, problem: PdsError | None) -> Response:
    services = visit.services
    refused = sum(row.count for row in services.sign_in.log.attempts() if row.reason)
    with services.store.read() as txn:
        records = repo_store.record_count(txn)
    return visit.page(
        "",
        "account_overview.html",
        problem=problem,
        done=_done(visit),
        sentence=status_sentence(visit),
        alarms=[_alarm(visit, alarm) for alarm in services.plc_watch.row().alarms],
        trouble=services.plc_watch.row().trouble,
        apps=len(await _grants(visit)) + len(services.sessions.live()),
        records=records,
        codes=len(services.codes.pending()),
        refused=refused,
        second_factor=services.second_factor.required,
        passkeys=len(services.passkeys().list()),
    )


def _alarm(visit: Visit, alarm: PlcAlarm) -> dict[str, Any]:
    hours, minutes = divmod(visit.services.plc_watch.time_left(alarm) // 60, 60)
    return {
        "time": time_words(alarm.created * 1_000_000),
        "left": f"{hours} hours and {minutes} minutes" if hours or minutes else "",
        "changes": alarm.changes,
        "signer": alarm.signer,
        "operation": alarm.cid,
    }


def status_sentence(visit: Visit) -> str:
    """The state of the account, the first thing that matters."""
    services, account = visit.services, visit.account
    if services.repo.read_only is not None:
        return f"Your box has stopped writing: {services.repo.read_only}. Reading goes on."
    if account.status == TAKEN_DOWN:
        return "Your account was taken down by whoever administers this server: the network does not see your posts."
    if account.status != "active":
        return "Your account is deactivated: the network does not see your posts, and apps cannot write."
    if account.plc_op is not None:
        return "Your account works on this box, but its identity is not published yet: the network cannot see it."
    return "Your account is online and the network sees your posts."


async def _apps(visit: Visit, problem: PdsError | None) -> Response:
    services = visit.services
    live = services.sessions.live()
    last_uses = {session.app_password: session.used_us for session in sorted(live, key=lambda row: row.used_us)}
    sessions = [
        {
            "id": session.id,
            "title": f"App password “{session.app_password}”" if session.app_password else "Your password",
            "client": session.client or "An app that did not say its name",
            "words": _SESSION_WORDS[scope_of(session)],
            "scope": scope_of(session),
            "created": time_words(session.created_us),
            "used": time_words(session.used_us),
        }
        for session in live
    ]
    browsers = [
        {
            "id": row.id,
            "client": row.client or "A browser",
            "address": row.address,
            "used": time_words(row.used_us),
            "here": row.id == visit.session.id,
        }
        for row in services.browsers.live()
    ]
    app_passwords = [
        {
            "name": row.name,
            "created": time_words(row.created_us),
            "used": time_words(last_uses[row.name]) if row.name in last_uses else "",
            "privileged": row.privileged,
        }
        for row in reversed(services.account.list_app_passwords())
    ]
    grants = _leaf(visit, "apps", await _grants(visit))
    return visit.page(
        "apps",
        "account_apps.html",
        problem=problem,
        done=_done(visit),
        grants=Leaf([_grant(grant) for grant in grants.rows], grants.older, grants.next),
        sessions=_leaf(visit, "sessions", sessions),
        app_passwords=_leaf(visit, "passwords", app_passwords),
        browsers=_leaf(visit, "browsers", browsers),
    )


@dataclass(frozen=True, slots=True)
class Leaf(Generic[Row]):
    """The rows of a list that are on this page, how many come after them, and the number of the page that goes on."""

    rows: list[Row]
    older: int
    next: int


def _leaf(visit: Visit, name: str, rows: list[Row]) -> Leaf[Row]:
    """The cards of `rows` that the query's `name` asks for, a number from 0; the first for a number out of range."""
    asked = visit.request.args.get(name, "0")
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 4 else 0
    if number * CARDS >= len(rows):
        number = 0
    end = (number + 1) * CARDS
    return Leaf(rows[number * CARDS : end], max(0, len(rows) - end), number + 1)


async def _grants(visit: Visit) -> list[Grant]:
    """The apps let in by OAuth; its machinery is not loaded for a box that has none."""
    with visit.services.store.read() as txn:
        if next(oauth_store.list_grants(txn), None) is None:
            return []
    return visit.services.oauth().grants.live()


def _grant(grant: Grant) -> dict[str, Any]:
    host = urlsplit(grant.client_id).hostname or grant.client_id
    agreed, granted = grant.agreed.split(" "), grant.scope.split(" ")
    return {
        "id": grant.id,
        "title": "An app on your own device" if host == "localhost" else host,
        "client": _cut(grant.client_id, 200),
        "may": _card_lines(agreed),
        "all": _card_lines(granted) if "include:" in grant.agreed else [],
        "created": time_words(grant.created_us),
        "used": time_words(grant.used_us),
    }


def _card_lines(scopes: list[str]) -> list[str]:
    """What these scopes allow, each line once: as many as have room on a card, and how many have not."""
    lines = dict.fromkeys(item.words for item in describe(scopes, {}))
    kept: list[str] = []
    room = CARD_TEXT
    for line in lines:
        if room <= 0:
            return [*kept, f"And {len(lines) - len(kept)} more."]
        kept.append(_cut(line, room))
        room -= len(line)
    return kept


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


async def _security(visit: Visit, problem: PdsError | None) -> Response:
    factor = visit.services.second_factor
    return visit.page(
        "security",
        "account_security.html",
        problem=problem,
        done=_done(visit),
        second_factor=factor.required,
        since=time_words(factor.since_us),
        recovery_codes=factor.recovery_codes_left(),
        passkeys=[
            {
                "id": encode_base64url(row.id),
                "name": row.name,
                "created": time_words(row.created_us),
                "used": time_words(row.used_us),
            }
            for row in visit.services.passkeys().list()
        ],
    )


async def _authenticator(visit: Visit, problem: PdsError | None) -> Response:
    """Setting the second factor up: shows the secret, so the password comes first."""
    if not visit.fresh:
        return _ask_password(visit, "authenticator", "Switch on the second factor", problem)
    import segno

    secret = visit.services.second_factor.begin()
    issuer = urlsplit(visit.services.config.public_url).hostname or "pds-lite"
    url = otpauth_url(secret, visit.account.handle, issuer)
    drawing = segno.make(url, error="m").svg_inline(scale=4, border=4, dark="#000", light="#fff", omitsize=True)
    return visit.page(
        "security",
        "account_authenticator.html",
        problem=problem,
        drawing=drawing,
        secret=secret_text(secret),
        url=url,
    )


async def _passkey(visit: Visit, problem: PdsError | None) -> Response:
    """Adding a passkey."""
    if not visit.fresh:
        return _ask_password(visit, "passkey", "Add a passkey", problem)
    options = ujson.dumps(visit.services.passkeys().creation_options(visit.browser))
    return visit.page("security", "account_passkey.html", problem=problem, options=options)


async def _address(visit: Visit, problem: PdsError | None) -> Response:
    return visit.page("address", "account_address.html", problem=problem, done=_done(visit))


async def _email(visit: Visit, problem: PdsError | None) -> Response:
    return visit.page(
        "email",
        "account_email.html",
        problem=problem,
        done=_done(visit),
        email=visit.account.email,
        confirmed=visit.account.email_confirmed,
    )


async def _codes(visit: Visit, problem: PdsError | None) -> Response:
    """With a code somebody could move the account away or delete it, so the password comes first."""
    if not visit.fresh:
        return _ask_password(visit, "codes", "Codes that wait for you", problem)
    codes = [
        {"purpose": WORDS[row.purpose], "code": row.code, "expires": time_words(row.expires_us)}
        for row in visit.services.codes.pending()
    ]
    return visit.page(
        "codes", "account_codes.html", problem=problem, codes=codes, can_move=is_plc_did(visit.account.did)
    )


async def _data(visit: Visit, problem: PdsError | None) -> Response:
    services = visit.services
    cursor = _cursor(visit.request.args.get("after", ""))
    with services.store.read() as txn:
        records = repo_store.record_count(txn)
        cids, after = blob_store.list_blobs(txn, None, cursor, ROWS)
        rows = [blob_store.get_blob(txn, cid) for cid in cids]
        total, present = blob_store.blob_counts(txn)
    return visit.page(
        "data",
        "account_data.html",
        problem=problem,
        records=records,
        blobs=present,
        missing=total - present,
        files=[{"cid": str(row.cid), "type": row.mime_type, "size": size_words(row.size)} for row in rows if row],
        after=str(after) if after is not None and len(cids) == ROWS else "",
    )


async def _danger(visit: Visit, problem: PdsError | None) -> Response:
    return visit.page(
        "danger", "account_danger.html", problem=problem, done=_done(visit), account_status=visit.account.status
    )


async def _log(visit: Visit, problem: PdsError | None) -> Response:
    attempts = visit.services.sign_in.log.attempts()
    number = visit.request.args.get("page", "0")
    page = int(number) if number in ("0", "1", "2", "3") else 0
    rows = [
        {
            "time": time_words(row.time_us),
            "way": _WAYS.get(row.way, row.way),
            "client": row.client or "did not say its name",
            "address": row.address,
            "name": row.name,
            "reason": row.reason,
            "count": row.count,
        }
        for row in attempts[page * ROWS : (page + 1) * ROWS]
    ]
    more = page + 1 if len(attempts) > (page + 1) * ROWS else None
    return visit.page("log", "account_log.html", problem=problem, rows=rows, more=more)


async def _export(visit: Visit, _problem: PdsError | None) -> Response:
    """The repository as one file, also while the account is deactivated."""
    name = f"{visit.account.handle}.car"
    headers = {
        **page_headers("none"),
        "Content-Type": "application/vnd.ipld.car",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if visit.request.method == "HEAD":
        return Response(b"", 200, headers)
    chunks: Any = visit.services.reader.export_car()
    first = await anext(chunks, b"")  # a refusal (too many exports at once) must come before the headers

    async def stream() -> AsyncIterator[bytes]:
        async with aclosing(chunks):  # the export's slot is free again when the browser hangs up
            yield first
            async for chunk in chunks:
                yield chunk

    body: Any = stream()
    return Response(body, 200, headers)


def _ask_password(visit: Visit, page: str, title: str, problem: PdsError | None) -> Response:
    section = "codes" if page == "codes" else "security"
    return visit.page(section, "account_password.html", problem=problem, page=page, title=title)


def _done(visit: Visit) -> str:
    return _DONE.get(visit.request.args.get("done", ""), "")


def _cursor(text: str) -> Cid | None:
    if not text:
        return None
    try:
        return Cid.parse(text)
    except PdsError:
        return None


def size_words(size: int) -> str:
    """Bytes with a unit people read."""
    for unit, factor in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


Show = Callable[[Visit, PdsError | None], Awaitable[Response]]
_SECTIONS: dict[str, Show] = {
    "": _overview,
    "apps": _apps,
    "security": _security,
    "address": _address,
    "email": _email,
    "codes": _codes,
    "data": _data,
    "danger": _danger,
    "log": _log,
}
EXTRA: dict[str, Show] = {"authenticator": _authenticator, "passkey": _passkey, "export.car": _export}
"""Pages that are in no menu."""
