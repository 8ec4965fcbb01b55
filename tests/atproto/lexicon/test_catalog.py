"""The bundled lexicons and the rules of `validate`: what a PDS says about a record before it signs it."""

import copy
import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.data import from_json
from pds_lite.atproto.lexicon import Catalog, catalog, check_record
from pds_lite.errors import BadRecord

TID = "3kznmn7xqxl22"
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
CID = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"
RAW = "bafkreibabalobzn6cd366ukcsjycp4yymjymgfxcv6xczmlgpemzkz3cfa"
SUBJECT = {"uri": f"at://{DID}/app.bsky.feed.post/{TID}", "cid": CID}
NOW = "2026-11-22T12:44:16.123Z"


def post(**changes: object) -> dict[str, Any]:
    value = {
        "$type": "app.bsky.feed.post",
        "text": "Hello, world",
        "createdAt": NOW,
        "langs": ["en"],
        "reply": {"root": SUBJECT, "parent": SUBJECT},
        "facets": [
            {
                "index": {"byteStart": 0, "byteEnd": 5},
                "features": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://example.com"}],
            }
        ],
        "embed": {
            "$type": "app.bsky.embed.images",
            "images": [
                {
                    "alt": "",
                    "image": {"$type": "blob", "ref": {"$link": RAW}, "mimeType": "image/jpeg", "size": 9},
                    "aspectRatio": {"width": 3, "height": 2},
                }
            ],
        },
        **changes,
    }
    record = from_json(copy.deepcopy(value))
    assert isinstance(record, dict)
    return record


def like(**changes: object) -> dict[str, Any]:
    return {"$type": "app.bsky.feed.like", "subject": SUBJECT, "createdAt": NOW, **changes}


def refusal(value: dict[str, Any], rkey: str | None = TID, validate: bool | None = None) -> str | None:
    try:
        check_record("app.bsky.feed.post", rkey, value, validate)
    except BadRecord as problem:
        return problem.message if problem.error == "InvalidRequest" else problem.error
    return None


def test_valid_records_are_valid() -> None:
    assert check_record("app.bsky.feed.post", TID, post(), None) == "valid"
    assert check_record("app.bsky.feed.post", None, post(), True) == "valid"
    assert check_record("app.bsky.feed.like", TID, like(), None) == "valid"


def test_the_message_names_collection_path_and_rule() -> None:
    start = "Invalid app.bsky.feed.post record: Record"
    assert refusal(post(text="é" * 301)) == f"{start}/text must not be longer than 300 graphemes"
    assert refusal(post(createdAt="yesterday")) == (
        f"{start}/createdAt must be an valid atproto datetime (both RFC-3339 and ISO-8601)"
    )
    facet = {"index": {"byteStart": -1, "byteEnd": 5}, "features": []}
    assert refusal(post(facets=[facet])) == f"{start}/facets/0/index/byteStart can not be less than 0"


def test_validate_true_wants_a_known_lexicon() -> None:
    value = {"$type": "com.example.unheard", "x": 1}
    assert check_record("com.example.unheard", "any", value, None) == "unknown"
    assert check_record("com.example.unheard", "any", value, False) is None
    with pytest.raises(BadRecord, match=r"Unknown lexicon type: com\.example\.unheard"):
        check_record("com.example.unheard", "any", value, True)


@pytest.mark.parametrize(
    "nsid", ["com.atproto.repo.createRecord", "com.atproto.repo.strongRef", "app.bsky.authViewAll"]
)
def test_what_is_no_record_type_is_unknown_as_a_collection(nsid: str) -> None:
    assert check_record(nsid, TID, {"$type": nsid}, None) == "unknown"


def test_validate_false_checks_nothing_but_the_type() -> None:
    assert check_record("app.bsky.feed.post", "not a key", {"$type": "app.bsky.feed.post", "text": 1}, False) is None
    for value in ({}, {"$type": "app.bsky.feed.like"}, {"$type": None}, []):
        for validate in (True, False, None):
            with pytest.raises(BadRecord):
                check_record("app.bsky.feed.post", TID, value, validate)


def test_the_record_key_is_part_of_the_lexicon() -> None:
    profile = {"$type": "app.bsky.actor.profile"}
    assert check_record("app.bsky.actor.profile", "self", profile, None) == "valid"
    for rkey in (TID, "Self", None):
        with pytest.raises(BadRecord, match=r'app\.bsky\.actor\.profile: must be "self"'):
            check_record("app.bsky.actor.profile", rkey, profile, None)
    assert refusal(post(), "self") == "Invalid record key for app.bsky.feed.post: must be a TID"
    schema = {"$type": "com.atproto.lexicon.schema", "lexicon": 1}
    assert check_record("com.atproto.lexicon.schema", "com.example.thing", schema, None) == "valid"
    for rkey in ("self", None):
        with pytest.raises(BadRecord, match="must be an NSID"):
            check_record("com.atproto.lexicon.schema", rkey, schema, None)


MISTAKES: dict[str, dict[str, object]] = {
    "datetime without a zone": {"createdAt": "2026-11-22T12:44:16"},
    "text as a number": {"text": 5},
    "3001 bytes of text": {"text": "x" * 3001},
    "null for an optional field": {"langs": None},
    "a bad language": {"langs": ["zz zz"]},
    "four languages": {"langs": ["en"] * 4},
    "a bad at-uri": {"reply": {"root": {**SUBJECT, "uri": "http://x"}, "parent": SUBJECT}},
    "half a reply": {"reply": {"root": SUBJECT}},
    "an embed without $type": {"embed": {"images": []}},
    "an embed of images without images": {"embed": {"$type": "app.bsky.embed.images"}},
    "a wrong $type below": {"reply": {"root": {**SUBJECT, "$type": "x.y.z"}, "parent": SUBJECT}},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_post_with_a_mistake_is_refused(mistake: str) -> None:
    assert refusal(post(**MISTAKES[mistake])) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 10**8}, "must be a blob of at most 2000000 bytes"),
        ({"mimeType": "text/html"}, "must be a blob of type image/*"),
    ],
)
def test_an_image_keeps_to_type_and_size(change: dict[str, object], reason: str) -> None:
    value = post()
    value["embed"]["images"][0]["image"].update(change)
    assert refusal(value) == f"Invalid app.bsky.feed.post record: Record/embed/images/0/image {reason}"


def test_a_future_embed_passes() -> None:
    assert refusal(post(embed={"$type": "app.bsky.embed.hologram", "x": 1})) is None


def test_create_record_input_leaves_the_record_alone() -> None:
    method = catalog().get("com.atproto.repo.createRecord")
    assert method is not None
    assert (method.kind, method.input_encoding) == ("procedure", "application/json")
    assert "InvalidSwap" in method.errors
    body = {"repo": DID, "collection": "app.bsky.feed.post", "record": {"any": {"$link": CID}, "x": 1.5}}
    assert method.check_input(body) is body
    for broken, message in (
        ({**body, "repo": "nobody"}, "Input/repo must be a valid did or a handle"),
        ({**body, "validate": None}, "Input/validate must be a boolean"),
        ({"repo": DID, "record": {}}, 'Input must have the property "collection"'),
        ([], "Input must be an object"),
    ):
        with pytest.raises(BadRecord) as caught:
            method.check_input(broken)
        assert caught.value.message == message


def test_apply_writes_checks_every_write() -> None:
    method = catalog().get("com.atproto.repo.applyWrites")
    assert method is not None
    delete = {"$type": "com.atproto.repo.applyWrites#delete", "collection": "app.bsky.feed.post", "rkey": TID}
    method.check_input({"repo": DID, "writes": [delete]})
    with pytest.raises(BadRecord, match=r"Input/writes/1/rkey must be a valid Record Key"):
        method.check_input({"repo": DID, "writes": [delete, {**delete, "rkey": "a/b"}]})
    with pytest.raises(BadRecord, match=r"Input/writes/0 \$type must be one of"):
        method.check_input({"repo": DID, "writes": [{**delete, "$type": "com.example.more"}]})


def test_put_record_may_swap_with_null() -> None:
    method = catalog().get("com.atproto.repo.putRecord")
    assert method is not None
    body = {"repo": DID, "collection": "app.bsky.feed.post", "rkey": TID, "record": {}, "swapRecord": None}
    assert method.check_input(body) is body


def test_outputs_can_be_checked_too() -> None:
    method = catalog().get("com.atproto.server.describeServer")
    assert method is not None
    assert method.output_encoding == "application/json"
    method.check_output({"did": DID, "availableUserDomains": [], "blobUploadLimit": 1})
    with pytest.raises(BadRecord, match="Output/blobUploadLimit must be an integer"):
        method.check_output({"did": DID, "availableUserDomains": [], "blobUploadLimit": "1"})


def test_what_is_not_there_is_none() -> None:
    for nsid in ("com.example.thing", "", "com.atproto.repo.defs", "app.bsky.feed.getTimeline"):
        assert catalog().get(nsid) is None
        assert catalog().kind(nsid) is None


def test_every_bundled_definition_compiles() -> None:
    known = Catalog()
    kinds = ("query", "procedure", "subscription", "record", "permission-set", "object")
    nsids = {kind: known.nsids(kind) for kind in kinds}
    assert all(nsids.values())
    for nsid in (nsid for names in nsids.values() for nsid in names):
        definition = known.get(nsid)
        assert definition is not None
        assert isinstance(definition.errors, tuple)
        definition.check_input, definition.check_output, definition.parse_params  # noqa: B018 - compiles
        assert (definition.record_key is not None) == (definition.kind == "record")
        assert (definition.permissions != ()) == (definition.kind == "permission-set")
        if definition.kind in {"record", "object"}:
            with pytest.raises(BadRecord):
                definition.check_record([])


def test_added_documents_come_before_bundled_ones() -> None:
    profile = {"type": "record", "key": "any", "record": {"type": "object", "properties": {"x": {"type": "boolean"}}}}
    known = Catalog([{"lexicon": 1, "id": "app.bsky.actor.profile", "defs": {"main": profile}}])
    value = {"$type": "app.bsky.actor.profile", "x": True}
    assert known.check_record("app.bsky.actor.profile", "anything", value, True) == "valid"
    assert catalog().get("app.bsky.actor.profile") is not known.get("app.bsky.actor.profile")


def test_opening_the_catalog_parses_no_document() -> None:
    code = (
        "import sys; from pds_lite.atproto.lexicon import schema, catalog\n"
        "schema.parse_definition = schema.parse_document = None\n"
        "known = catalog(); assert known.get('app.bsky.feed.post').kind == 'record'\n"
        "assert len(known.nsids('procedure')) > 40\n"
        "assert 'regex' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[3])


def plain(value: Any) -> Any:
    """JSON to values without data.py, which refuses the vectors' blobs: their refs have the codec of records."""
    match value:
        case {"$link": str(text)}:
            return Cid.parse(text)
        case {"$bytes": str(text)} if len(value) == 1:
            return b64decode(text + "=" * (-len(text) % 4))
        case dict():
            return {key: plain(entry) for key, entry in value.items()}
        case list():
            return [plain(entry) for entry in value]
    return value


@pytest.fixture
def interop(vectors: Path) -> Catalog:
    paths = sorted((vectors / "lexicon" / "catalog").glob("*.json"))
    return Catalog(json.loads(path.read_text()) for path in paths)


def test_valid_interop_records_are_valid(interop: Catalog, vectors: Path) -> None:
    cases = json.loads((vectors / "lexicon" / "record-data-valid.json").read_text())
    assert cases
    for case in cases:
        value = plain(case["data"])
        assert interop.check_record("example.lexicon.record", case["rkey"], value, True) == "valid", case["name"]


def test_invalid_interop_records_are_refused(interop: Catalog, vectors: Path) -> None:
    cases = json.loads((vectors / "lexicon" / "record-data-invalid.json").read_text())
    assert cases
    accepted = []
    for case in cases:
        try:
            interop.check_record("example.lexicon.record", case["rkey"], plain(case["data"]), True)
        except BadRecord:
            continue
        accepted.append(case["name"])
    assert accepted == []


def test_interop_records_are_refused_for_their_own_mistake(interop: Catalog, vectors: Path) -> None:
    """The cases about `unknown` also lack the required integer; with it they are wrong only where their name says."""
    cases = json.loads((vectors / "lexicon" / "record-data-invalid.json").read_text())
    cases = [case for case in cases if case["name"].startswith("unknown")]
    assert len(cases) == 3
    for case in cases:
        with pytest.raises(BadRecord, match="Record/unknown must be an object"):
            interop.check_record("example.lexicon.record", "demo", plain({**case["data"], "integer": 1}), True)
