"""com.atproto.identity reads: ourselves without a network, others by their homes."""

from collections.abc import Iterator

import pytest

from tests.live_box import HANDLE, LiveBox, live_box

NS = "com.atproto.identity."


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    # Nothing listens at these addresses: whatever is answered was known here.
    with live_box(tmp_path_factory.mktemp("box"), plc_url="http://127.0.0.1:9", dns_server="127.0.0.1:9") as running:
        yield running


def test_the_own_handle_and_did_resolve_offline(box: LiveBox) -> None:
    assert box.get(NS + "resolveHandle", handle="Alice.test").json == {"did": box.did}
    assert box.get(NS + "resolveDid", did=box.did).json["didDoc"]["alsoKnownAs"] == [f"at://{HANDLE}"]
    for identifier in (HANDLE, box.did):
        found = box.get(NS + "resolveIdentity", identifier=identifier).json
        assert (found["did"], found["handle"]) == (box.did, HANDLE)
        assert found["didDoc"]["id"] == box.did


def test_what_does_not_resolve_is_named(box: LiveBox) -> None:
    assert box.get(NS + "resolveHandle", handle="not a handle").error == (400, "InvalidRequest")
    assert box.get(NS + "resolveHandle", handle="bob.test").error == (400, "HandleNotFound")
    assert box.get(NS + "resolveDid", did="did:example:abc").status == 400


def test_recommended_credentials_are_those_of_this_box(box: LiveBox) -> None:
    assert box.app is not None
    keys = box.app.services.keys

    answer = box.get(NS + "getRecommendedDidCredentials", box.token()).json

    assert answer["rotationKeys"] == [keys.rotation.did_key]
    assert answer["verificationMethods"] == {"atproto": keys.signing.did_key}
    assert answer["services"]["atproto_pds"]["endpoint"] == box.url
    assert answer["alsoKnownAs"] == [f"at://{HANDLE}"]
