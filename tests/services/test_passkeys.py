"""Passkeys: only the answer to this browser's challenge, given once, on the public URL, by a key we know."""

from __future__ import annotations

import json
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from pds_lite.atproto.base64url import decode_base64url, encode_base64url
from pds_lite.errors import BadInput, TooLarge, Unauthorized
from pds_lite.services import key_store
from pds_lite.services.passkeys import CHALLENGE_S, Passkeys
from pds_lite.storage.sign_in_store import MAX_PASSKEYS
from pds_lite.storage.store import Store
from tests.set_clock import SetClock

ORIGIN = "https://pds.example.com"
BROWSER = "b" * 64
PRESENT, VERIFIED, ATTESTED = 1, 4, 64
KEYS = key_store.generate()


class Device:
    """An authenticator with one key."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = b"key" + bytes(13)
        self.counter = 0

    def create(self, options: dict[str, Any], *, origin: str = ORIGIN, flags: int = PRESENT | VERIFIED) -> str:
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cbor2.dumps(cose)
        data = self._data(options["publicKey"]["rp"]["id"], flags | ATTESTED) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = _client_data("webauthn.create", options, origin)
        return self._answer({"clientDataJSON": client, "attestationObject": attestation})

    def get(
        self,
        options: dict[str, Any],
        *,
        origin: str = ORIGIN,
        flags: int = PRESENT | VERIFIED,
        rp_id: str = "pds.example.com",
        kind: str = "webauthn.get",
        count: int = 1,
    ) -> str:
        self.counter += count
        data = self._data(rp_id, flags)
        client = _client_data(kind, options, origin)
        signature = self.key.sign(data + sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._answer({"clientDataJSON": client, "authenticatorData": data, "signature": signature})

    def _data(self, rp_id: str, flags: int) -> bytes:
        return sha256(rp_id.encode()).digest() + bytes((flags,)) + self.counter.to_bytes(4, "big")

    def _answer(self, response: dict[str, bytes]) -> str:
        texts = {name: encode_base64url(value) for name, value in response.items()}
        identity = encode_base64url(self.id)
        return json.dumps({"id": identity, "rawId": identity, "type": "public-key", "response": texts})


def _client_data(kind: str, options: dict[str, Any], origin: str) -> bytes:
    return json.dumps({"type": kind, "challenge": options["publicKey"]["challenge"], "origin": origin}).encode()


@pytest.fixture
def passkeys(clock: SetClock, store: Store) -> Passkeys:
    config: Any = SimpleNamespace(public_url=ORIGIN)
    account = SimpleNamespace(did="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", handle="alice.test")
    accounts: Any = SimpleNamespace(require=lambda: account)
    return Passkeys(config, clock, store, KEYS, accounts)


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """The options as the browser gets them: they must survive JSON."""
    made: dict[str, Any] = json.loads(json.dumps(options, default=dict))
    return made


async def enrol(passkeys: Passkeys, device: Device) -> None:
    await passkeys.add(BROWSER, "Phone", device.create(asked(passkeys.creation_options(BROWSER))))


async def refused(passkeys: Passkeys, answer: str, browser: str = BROWSER) -> str:
    with pytest.raises(Unauthorized) as caught:
        await passkeys.check(browser, answer)
    assert "accepted" in caught.value.message
    return caught.value.hint


async def test_a_passkey_is_made_and_used(passkeys: Passkeys, clock: SetClock) -> None:
    device = Device()
    options = asked(passkeys.creation_options(BROWSER))["publicKey"]
    assert options["rp"]["id"] == "pds.example.com"
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert options["authenticatorSelection"]["residentKey"] == "required"
    await enrol(passkeys, device)
    clock.forward(10)

    used = await passkeys.check(BROWSER, device.get(asked(passkeys.request_options(BROWSER))))

    assert (used.name, used.counter, used.used_us) == ("Phone", 1, clock.now_us())
    assert passkeys.list() == [used]
    assert asked(passkeys.creation_options(BROWSER))["publicKey"]["excludeCredentials"][0]["id"] == encode_base64url(
        device.id
    )
    await passkeys.remove(encode_base64url(device.id))
    await refused(passkeys, device.get(asked(passkeys.request_options(BROWSER))))


async def test_a_challenge_is_answered_once_in_time_and_by_its_browser(passkeys: Passkeys, clock: SetClock) -> None:
    device = Device()
    await enrol(passkeys, device)
    options = asked(passkeys.request_options(BROWSER))
    answer = device.get(options)
    await passkeys.check(BROWSER, answer)
    assert "already" in await refused(passkeys, answer)
    assert "already" in await refused(passkeys, device.get(options))

    late = asked(passkeys.request_options(BROWSER))
    assert "elsewhere" in await refused(passkeys, device.get(late), "c" * 64)
    clock.forward(CHALLENGE_S + 1)
    assert "too long" in await refused(passkeys, device.get(late))
    forged = asked(passkeys.request_options(BROWSER))
    raw = bytearray(decode_base64url(forged["publicKey"]["challenge"]))
    raw[10] ^= 1
    forged["publicKey"]["challenge"] = encode_base64url(bytes(raw))
    assert "elsewhere" in await refused(passkeys, device.get(forged))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"origin": "https://evil.example"}, "origin"),
        ({"origin": "https://pds.example.com.evil.example"}, "origin"),
        ({"origin": "http://pds.example.com"}, "origin"),
        ({"rp_id": "evil.example"}, "RP ID"),
        ({"flags": PRESENT}, "verif"),
        ({"flags": VERIFIED}, "resent"),
        ({"kind": "webauthn.create"}, "type"),
        ({"count": -1}, "went back"),
    ],
)
async def test_what_is_no_proof(passkeys: Passkeys, change: dict[str, Any], reason: str) -> None:
    device = Device()
    device.counter = 7
    await enrol(passkeys, device)

    assert reason in await refused(passkeys, device.get(asked(passkeys.request_options(BROWSER)), **change))
    assert await passkeys.check(BROWSER, device.get(asked(passkeys.request_options(BROWSER)), count=5))


async def test_the_signature_must_be_of_the_known_key(passkeys: Passkeys) -> None:
    device, thief = Device(), Device()
    await enrol(passkeys, device)
    assert "signature" in (await refused(passkeys, thief.get(asked(passkeys.request_options(BROWSER))))).lower()


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"response": null}',
        '{"response": {"clientDataJSON": "bnVsbA"}}',
        '{"response": {"clientDataJSON": "eyJjaGFsbGVuZ2UiOiAxfQ"}}',
        "x" * 40_000,
        "\ud800",
    ],
)
async def test_nonsense_is_refused(passkeys: Passkeys, answer: str) -> None:
    await refused(passkeys, answer)
    with pytest.raises(BadInput):
        await passkeys.add(BROWSER, "x", answer)
    assert passkeys.list() == []


async def test_a_passkey_needs_the_devices_lock_and_our_page(passkeys: Passkeys) -> None:
    for change in ({"flags": PRESENT}, {"origin": "https://evil.example"}):
        with pytest.raises(BadInput):
            await passkeys.add(BROWSER, "x", Device().create(asked(passkeys.creation_options(BROWSER)), **change))  # type: ignore[arg-type]
    assert passkeys.list() == []


async def test_there_is_an_end_to_passkeys(passkeys: Passkeys) -> None:
    for number in range(MAX_PASSKEYS):
        device = Device()
        device.id = bytes((number,)) * 16
        await enrol(passkeys, device)
    with pytest.raises(TooLarge):
        await enrol(passkeys, Device())


def _bent(answer: str, place: tuple[str, ...], value: Any) -> str:
    made = json.loads(answer)
    target = made
    for name in place[:-1]:
        target = target[name]
    target[place[-1]] = value
    return json.dumps(made)


def _shortened(answer: str, name: str, size: int) -> str:
    whole = decode_base64url(json.loads(answer)["response"][name])
    return _bent(answer, ("response", name), encode_base64url(whole[:size]))


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], [1], {}, "x", "é"])
@pytest.mark.parametrize("place", [("clientExtensionResults",), ("response",), ("rawId",), ("response", "signature")])
async def test_strange_answers_are_refused_and_no_fault(passkeys: Passkeys, place: tuple[str, ...], value: Any) -> None:
    device = Device()
    await enrol(passkeys, device)
    answer = device.get(asked(passkeys.request_options(BROWSER)))
    if place == ("clientExtensionResults",) and value in (None, {}):
        return  # that is nothing strange
    await refused(passkeys, _bent(answer, place, value))


@pytest.mark.parametrize("size", [0, 1, 36, 37, 54, 60, 100])
async def test_answers_that_break_off_are_refused_and_no_fault(passkeys: Passkeys, size: int) -> None:
    device = Device()
    made = device.create(asked(passkeys.creation_options(BROWSER)))
    with pytest.raises(BadInput):
        await passkeys.add(BROWSER, "Phone", _shortened(made, "attestationObject", size))
    await enrol(passkeys, device)
    await refused(
        passkeys, _shortened(device.get(asked(passkeys.request_options(BROWSER))), "authenticatorData", min(size, 36))
    )


async def test_a_key_that_cannot_be_checked_is_not_taken(passkeys: Passkeys) -> None:
    made = json.loads(Device().create(asked(passkeys.creation_options(BROWSER))))
    attestation = decode_base64url(made["response"]["attestationObject"])
    of_p256, of_nobody = cbor2.dumps({3: -7})[1:], cbor2.dumps({3: -20})[1:]
    assert attestation.count(of_p256) == 1
    made["response"]["attestationObject"] = encode_base64url(attestation.replace(of_p256, of_nobody))
    with pytest.raises(BadInput, match="cannot be checked"):
        await passkeys.add(BROWSER, "Phone", json.dumps(made))
