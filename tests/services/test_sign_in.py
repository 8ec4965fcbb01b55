"""The door: guessing passwords and codes over real sockets, and who is let through meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.services.second_factor import STEP_S, totp
from pds_lite.services.throttle import CODES, PASSWORDS
from tests.live_box import HANDLE, PASSWORD, Answer, LiveBox, live_box

OWNER = "198.51.100.7"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", trusted_proxies=["127.0.0.1"]) as running:
        running.app.services.limits.enabled = True  # type: ignore[union-attr]
        running.app.services.sign_in._throttle._enabled = True  # type: ignore[union-attr]
        yield running


def services(box: LiveBox) -> Any:
    assert box.app is not None
    return box.app.services


def sign_in(box: LiveBox, address: str, password: str = PASSWORD, **more: str) -> Answer:
    from pds_lite import ujson

    body = ujson.dumpb({"identifier": HANDLE, "password": password, **more})
    headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
    return box.request("POST", "/xrpc/com.atproto.server.createSession", body, headers)


def strangers() -> Iterator[str]:
    for number in range(10_000):
        yield f"203.0.{number >> 8}.{number & 255}"


def switch_on(box: LiveBox) -> tuple[bytes, list[str]]:
    factor = services(box).second_factor
    secret = factor.begin()
    return secret, box.run(factor.switch_on(totp(secret, services(box).clock.now() // STEP_S - 1)))


def test_a_botnet_is_slowed_and_the_owner_is_not(box: LiveBox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cheap(_hash: str | None, password: str) -> bool:  # hashing is not what is judged here
        return password == PASSWORD

    monkeypatch.setattr("pds_lite.services.passwords.verify_password", cheap)
    assert sign_in(box, OWNER).status == 200
    app_password = box.run(services(box).account.create_app_password("bot", privileged=False))[1]
    addresses = strangers()

    answers = [sign_in(box, next(addresses), "wrong").status for _ in range(PASSWORDS[False].burst + 20)]

    assert answers.count(401) in (PASSWORDS[False].burst, PASSWORDS[False].burst + 1)
    assert answers[-1] == 429
    refused = sign_in(box, next(addresses))
    assert (refused.status, refused.json["error"]) == (429, "RateLimitExceeded")
    assert int(refused.headers["retry-after"]) >= 1
    assert sign_in(box, next(addresses), app_password).status == 200, "an app password cannot be guessed"
    assert sign_in(box, OWNER).status == 200, "an address that signed in before"
    for home in ("192.168.1.5", "fd00::5", "127.0.0.1"):
        assert sign_in(box, home).status == 200, home


def test_another_spelling_of_the_name_is_no_second_budget(box: LiveBox) -> None:
    def guess(number: int) -> int:
        from pds_lite import ujson

        name = " " * number + ("@" if number % 2 else "") + HANDLE.upper()
        body = ujson.dumpb({"identifier": name, "password": "x" * 600})
        headers = {"Content-Type": "application/json", "X-Forwarded-For": f"2001:db8:1:2::{number:x}"}
        return box.request("POST", "/xrpc/com.atproto.server.createSession", body, headers).status

    assert [guess(number) for number in range(32)].count(429) == 2


def test_clients_are_asked_for_a_code_and_told_that_there_is_one(box: LiveBox) -> None:
    secret, codes = switch_on(box)
    now = services(box).clock.now() // STEP_S

    asked = sign_in(box, OWNER)
    assert asked.error == (401, "AuthFactorTokenRequired")
    assert sign_in(box, OWNER, authFactorToken=" ").error == (401, "AuthFactorTokenRequired")
    wrong = sign_in(box, OWNER, authFactorToken="12345-67890")
    assert wrong.error == (400, "InvalidToken")
    assert "Token is invalid" in wrong.json["message"]
    session = sign_in(box, OWNER, authFactorToken=totp(secret, now)).json
    assert session["emailAuthFactor"] is True
    assert box.get("com.atproto.server.getSession", session["accessJwt"]).json["emailAuthFactor"] is True
    assert sign_in(box, OWNER, authFactorToken=totp(secret, now)).error == (400, "InvalidToken")
    assert sign_in(box, OWNER, authFactorToken=codes[0]).status == 200


def test_no_app_is_told_that_it_switched_the_second_factor(box: LiveBox) -> None:
    token = box.token()
    for on in (False, True):
        wanted = {"email": "alice@example.com", "emailAuthFactor": not on}
        refused = box.server("updateEmail", wanted, token)
        assert (refused.error, "/account" in refused.json["message"]) == ((400, "InvalidRequest"), True)
        assert services(box).second_factor.required is on
        assert box.server("updateEmail", {**wanted, "emailAuthFactor": on}, token).status == 200
        if not on:
            switch_on(box)


def test_a_wrong_password_does_not_tell_that_there_is_a_second_factor(box: LiveBox) -> None:
    _, codes = switch_on(box)
    for code in ({}, {"authFactorToken": codes[0]}, {"authFactorToken": "123456"}):
        assert sign_in(box, OWNER, "wrong", **code).error == (401, "AuthenticationRequired")
    assert services(box).second_factor.recovery_codes_left() == 10


def test_app_passwords_need_no_code_and_open_no_page(box: LiveBox) -> None:
    text = box.run(services(box).account.create_app_password("bot", privileged=False))[1]
    switch_on(box)

    session = sign_in(box, OWNER, text)
    assert session.status == 200
    from pds_lite.errors import Unauthorized
    from pds_lite.services.sign_in import Caller

    with pytest.raises(Unauthorized):
        box.run(services(box).sign_in.check(Caller("page", OWNER, ""), HANDLE, text, None))
    with pytest.raises(Unauthorized):
        box.run(services(box).sign_in.check(Caller("oauth", OWNER, ""), HANDLE, text, None))


def test_at_the_console_the_second_factor_can_be_switched_off(box: LiveBox, capsys: pytest.CaptureFixture[str]) -> None:
    from pds_lite.cli.main import main

    switch_on(box)
    assert sign_in(box, OWNER).error == (401, "AuthFactorTokenRequired")

    assert main(["account", "second-factor-off", "--data-dir", str(box.data_dir)]) == 0

    assert sign_in(box, OWNER).status == 200
    assert "was on" in capsys.readouterr().out


def test_codes_cannot_be_guessed_by_somebody_who_has_the_password(
    box: LiveBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cheap(_hash: str | None, password: str) -> bool:
        return password == PASSWORD

    monkeypatch.setattr("pds_lite.services.passwords.verify_password", cheap)
    _, codes = switch_on(box)
    addresses = strangers()

    answers = [sign_in(box, next(addresses), authFactorToken="000000").status for _ in range(40)]

    assert answers.count(400) == CODES[False].burst
    assert answers[-1] == 429
    assert sign_in(box, "192.168.1.5", authFactorToken=codes[0]).status == 200
    log = services(box).sign_in.log.attempts()
    assert any("The password was right, the code was not" in row.reason for row in log)


def test_the_log_is_written_when_the_box_ends(tmp_path: Path) -> None:
    with live_box(tmp_path / "box") as box:
        box.server("createSession", {"identifier": HANDLE, "password": "wrong"})
        box.log_in()
    with live_box(tmp_path / "box") as box:
        reasons = [row.reason for row in services(box).sign_in.log.attempts()]
        assert reasons == ["", "The password was wrong"]


def test_an_app_password_buys_no_tries_at_the_owners_password(box: LiveBox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cheap(_hash: str | None, password: str) -> bool:
        return password == PASSWORD

    monkeypatch.setattr("pds_lite.services.passwords.verify_password", cheap)
    app_password = box.run(services(box).account.create_app_password("leaked", privileged=False))[1]
    addresses = strangers()

    statuses = []
    for _ in range(PASSWORDS[False].burst + 20):
        thief = next(addresses)
        assert sign_in(box, thief, app_password).status == 200
        statuses.append(sign_in(box, thief, "wrong").status)

    assert statuses.count(401) in (PASSWORDS[False].burst, PASSWORDS[False].burst + 1)
    assert statuses[-1] == 429
    assert not services(box).sign_in.log.is_known(thief)


def test_a_right_password_that_met_the_second_factor_is_in_the_log(box: LiveBox) -> None:
    switch_on(box)
    assert sign_in(box, "203.0.113.7").error == (401, "AuthFactorTokenRequired")
    latest = services(box).sign_in.log.attempts()[0]
    assert (latest.reason, latest.address) == (
        "The password was right; the code of the second factor was still to come",
        "203.0.113.7",
    )


def test_what_signed_in_by_an_app_password_is_named_with_it(box: LiveBox) -> None:
    app_password = box.run(services(box).account.create_app_password("Tablet", privileged=False))[1]
    body = f'{{"identifier": "{HANDLE}", "password": "{app_password}"}}'.encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Skyreader/3"}
    assert box.request("POST", "/xrpc/com.atproto.server.createSession", body, headers).status == 200
    assert services(box).sign_in.log.attempts()[0].client == "Skyreader/3 by the app password “Tablet”"
