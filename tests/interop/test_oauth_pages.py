"""Every page of the authorization endpoint in real Chromium: phone and desktop, light and dark, with and without
JavaScript, judged by axe-core.

SHOTS names a folder in which the screenshots are left: a person looks at them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from pds_lite.services.second_factor import STEP_S, totp
from tests.interop.chromium import Chromium, app_page, find_chromium
from tests.live_box import HANDLE, PASSWORD, LiveBox
from tests.oauth_app import App
from tests.web.test_oauth_clients import CLIENT, box_that_finds
from tests.web.test_permission_sets import SCOPE as LEAFLETS
from tests.web.test_permission_sets import dns, publisher
from tests.web_client import AppHost, app_host, metadata

__all__ = ["publisher"]

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]
FEW = "atproto repo:app.bsky.feed.post?action=create"
ASKED = (
    "atproto transition:email repo:app.bsky.feed.post repo:app.bsky.feed.like?action=create blob:image/* "
    "rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview identity:handle account:email?action=manage"
)
MANY = (
    f"{LEAFLETS} transition:generic transition:chat.bsky repo:* repo:sh.tangled.repo.issue?action=delete "
    "repo?collection=app.bsky.graph.follow&collection=app.bsky.graph.block "
    "rpc:app.bsky.graph.muteActor?aud=did:web:api.bsky.app%23bsky_appview "
    "rpc:chat.bsky.convo.sendMessage?aud=did:web:api.bsky.chat%23bsky_chat rpc:*?aud=did:web:video.bsky.app%23video "
    "blob?accept=application/pdf&accept=video/* account:repo?action=manage account:status?action=manage identity:*"
)


@dataclass(frozen=True)
class Place:
    """A box with something to see: its owner has a second factor, its apps ask for permission sets."""

    box: LiveBox
    host: AppHost
    recovery_codes: list[str]


@pytest.fixture(scope="module")
def chromium(reference_node: tuple[str, Path]) -> Chromium:
    return find_chromium(reference_node, "axe-core")


@pytest.fixture(scope="module")
def place(publisher: LiveBox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("pages")
    table: dict[str, Any] = {
        f"_lexicon.{name}": [f'"did={publisher.did}"'] for name in ("leaflet.pub", "standard.site", "bsky.app")
    }
    with (
        app_host(folder / "app") as host,
        dns(table) as (server, _),
        box_that_finds(host, folder / "box", dns_server=server) as box,
    ):
        host.documents[CLIENT] = {**metadata(host), "scope": f"{MANY} {FEW}"}
        yield Place(box, host, box.run(second_factor(box)))


async def second_factor(box: LiveBox) -> list[str]:
    """Switches it on: the recovery codes."""
    assert box.app is not None
    factor = box.app.services.second_factor
    return await factor.switch_on(totp(factor.begin(), int(time.time()) // STEP_S))


def addresses(place: Place) -> dict[str, str]:
    """Pages the owner may meet besides those of a plain sign-in, by name."""
    url = place.box.url
    web = App(url, scope=MANY, client_id=place.host.url + CLIENT, redirect=f"https://{place.host.name}/callback")
    few = App(url, scope=FEW)
    return {
        "consent-many": url + web.page_url(web.push()),
        "consent-few": url + few.page_url(few.push()),
        "consent-nothing": url + few.page_url(few.push(scope="atproto")),
        "other-account": url + web.page_url(web.push(login_hint="bob.test")),
        "refused": f"{url}/oauth/authorize?{urlencode(few.request(code_challenge=''))}",
        "doubtful": f"{url}/oauth/authorize?{urlencode(few.request(redirect_uri='https://evil.example/'))}",
        "unknown": url + few.page_url(few.push()) + "x",
        "not-an-app": f"{url}/oauth/authorize",
    }


@pytest.mark.parametrize(
    ("phone", "dark", "javascript", "mode"),
    [
        (True, True, True, "query"),
        (True, False, False, "form_post"),
        (False, False, True, "form_post"),
        (False, True, False, "query"),
    ],
    ids=["phone-script", "phone-no-script", "desktop-script", "desktop-no-script"],
)
def test_the_owner_signs_in_and_agrees_and_every_page_is_fit_to_be_read(
    chromium: Chromium, place: Place, tmp_path: Path, phone: bool, dark: bool, javascript: bool, mode: str
) -> None:
    view = f"{'phone' if phone else 'desktop'}-{'dark' if dark else 'light'}{'' if javascript else '-no-script'}"
    shots = Path(os.environ.get("SHOTS", tmp_path)) / view
    shots.mkdir(parents=True, exist_ok=True)
    with app_page() as page:
        app = App(place.box.url, scope=ASKED, redirect=page.url)
        seen = chromium.walk(
            "oauth_pages.mjs",
            url=place.box.url + app.page_url(app.push(response_mode=mode)),
            handle=HANDLE,
            password=PASSWORD,
            code=place.recovery_codes.pop(),
            untick=["identity:handle"],
            others=addresses(place),
            javascript=javascript,
            phone=phone,
            dark=dark,
            formPost=mode == "form_post",
            shots=str(shots),
        )
        (back,) = page.answers
        assert (back["iss"], back["state"]) == (place.box.url, app.state)
        tokens = app.exchange(back["code"]).json
    assert set(tokens["scope"].split(" ")) == set(ASKED.split(" ")) - {"identity:handle"}
    assert seen["violations"] == []
    assert seen["faults"] == []
    assert seen["blocked"] == []
    assert seen["pages"] >= 13


@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_an_app_may_lead_on_to_another_site(chromium: Chromium, place: Place, tmp_path: Path, mode: str) -> None:
    """Brokers do, and whoever signs in for a website under another name."""
    with app_page() as broker, app_page() as page:
        broker.leads_on_to = page.url
        app = App(place.box.url, scope=FEW, redirect=broker.url)
        seen = chromium.walk(
            "oauth_pages.mjs",
            url=place.box.url + app.page_url(app.push(response_mode=mode)),
            handle=HANDLE,
            password=PASSWORD,
            code=place.recovery_codes.pop(),
            untick=[],
            others={},
            javascript=True,
            phone=False,
            dark=False,
            formPost=mode == "form_post",
            shots=str(tmp_path),
        )
        assert broker.answers[0]["state"] == app.state
    assert seen["blocked"] == []
