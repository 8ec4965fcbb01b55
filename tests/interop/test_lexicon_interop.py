"""Random records of every bundled type, judged by pds-lite, npm @atproto/lexicon and the reference PDS's schemas."""

import copy
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite import ujson
from pds_lite.atproto.data import from_json
from pds_lite.atproto.lexicon import catalog
from pds_lite.atproto.lexicon import definitions as kinds
from pds_lite.errors import BadData, BadRecord

pytestmark = pytest.mark.interop

FOLDER = Path(__file__).resolve().parent
CASES_PER_TYPE = 160
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
CID = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"
RAW = "bafkreibabalobzn6cd366ukcsjycp4yymjymgfxcv6xczmlgpemzkz3cfa"
BLOB = {"$type": "blob", "ref": {"$link": RAW}, "mimeType": "image/png", "size": 9}
FAMILY = "👩‍👩‍👦‍👦"
FORMATS = {
    "at-identifier": [DID, "alice.example.com"],
    "at-uri": [f"at://{DID}/app.bsky.feed.post/3kznmn7xqxl22", "at://alice.example.com", f"at://{DID}/com.example.a"],
    "cid": [CID, RAW],
    "datetime": ["1985-04-12T23:20:50Z", "2024-02-29T23:59:59.123456+05:30", "2026-11-22T12:44:16.123Z"],
    "did": [DID, "did:web:example.com"],
    "handle": ["alice.example.com", "xn--ls8h.test"],
    "language": ["en", "pt-BR", "zh-Hant-TW", "x-klingon"],
    "nsid": ["app.bsky.feed.post", "com.example.fooBar2"],
    "record-key": ["self", "3kznmn7xqxl22"],
    "tid": ["3kznmn7xqxl22"],
    "uri": ["https://example.com/a?b#c", f"at://{DID}", "mailto:a@example.com"],
}
JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 101, 2**53 - 1, "", "x", "é" * 65, "x" * 3001, "x" * 301, FAMILY * 12, FAMILY * 65,
    [], [None], {}, {"$type": "com.example.new"}, {"$type": 1}, {"$type": None}, {"a": 1}, {"$link": CID},
    {"$bytes": "AAAA"}, BLOB, {**BLOB, "size": 10**9}, {**BLOB, "mimeType": "text/plain"}, CID, DID, "at://",
    "2026-02-30T00:00:00Z", "2026-11-22 12:44:16Z", "0000-01-01T00:00:00+01:00", "at://x", "did:plc:", "en_US",
]  # fmt: skip


def sample(field: Any, rng: random.Random, name: str | None = None) -> Any:
    """A value that fits `field`, as JSON; `name` is the $type that a record must have."""
    match field:
        case kinds.Ref(target):
            return sample(catalog().definition(target), rng, target.removesuffix("#main"))
        case kinds.Union(targets, closed):
            if not targets or (not closed and rng.random() < 0.2):
                return {"$type": "com.example.new", "x": 1}
            target = rng.choice(targets)
            name = target.removesuffix("#main")
            return {"$type": name, **sample(catalog().definition(target), rng, name)}
        case kinds.Record():
            return {"$type": name, **sample(field.record, rng)}
        case kinds.Object(properties, required):
            chosen = [key for key in properties if key in required or rng.random() < 0.7]
            return {key: sample(properties[key], rng) for key in chosen}
        case kinds.Array(items, low, high):
            count = rng.randint(low or 0, min(high or 3, (low or 0) + 3))
            return [sample(items, rng) for _ in range(count)]
    return scalar(field, rng)


def scalar(field: Any, rng: random.Random) -> Any:
    match field:
        case kinds.String():
            return rng.choice(field.enum) if field.enum else text(field, rng)
        case kinds.Integer():
            low = field.minimum if field.minimum is not None else -5
            return rng.choice([low, field.maximum if field.maximum is not None else low + 7])
        case kinds.Boolean(const):
            return rng.random() < 0.5 if const is None else const
        case kinds.Blob(accept):
            return {**copy.deepcopy(BLOB), "mimeType": (accept or ("image/png",))[0].replace("*", "jpeg")}
        case kinds.Token(word):
            return word
        case kinds.Bytes():
            return {"$bytes": "AAAAAAAA"}
        case kinds.CidLink():
            return {"$link": CID}
    return {"anything": [1, {"$type": "x.y.z"}]}


def text(field: kinds.String, rng: random.Random) -> str:
    if field.format:
        return rng.choice(FORMATS[field.format])
    graphemes = min(field.max_graphemes or field.max_length or 9, 700)
    room = (field.max_length or 10**6) // graphemes
    return rng.choice([letter for letter in ("x", "é", FAMILY) if len(letter.encode()) <= room]) * graphemes


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) inside a JSON value."""
    entries = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    for key, value in entries:
        yield node, key
        yield from places(value)


def mutate(value: Any, rng: random.Random) -> None:
    """Changes one place: drops, replaces, lengthens or shortens it, changes a letter, adds something beside it."""
    container, key = rng.choice(list(places(value)))
    held = container[key]
    choice = rng.randrange(6)
    if choice == 0 and isinstance(container, dict):
        del container[key]
    elif choice == 1 and isinstance(held, str) and held:
        at = rng.randrange(len(held))
        container[key] = held[:at] + rng.choice("aZ09.:-_/# é\n%~") + held[at + 1 :]
    elif choice == 2 and isinstance(held, str):
        container[key] = rng.choice([held + "x", held[:-1], held * 2, held.upper(), held + "#main", " " + held])
    elif choice == 2 and isinstance(held, list) and held:
        container[key] = held * rng.randint(2, 120)
    elif choice == 3 and type(held) is int:
        container[key] = held + rng.choice([-1, 1, -(2**40), 2**40])
    elif choice == 4 and isinstance(held, dict):
        held[rng.choice(["$type", "zzz", "text", "uri"])] = copy.deepcopy(rng.choice(JUNK))
    else:
        container[key] = copy.deepcopy(rng.choice(JUNK))


def cases(seed: int) -> list[tuple[str, dict[str, Any]]]:
    rng = random.Random(seed)
    made = []
    for nsid in catalog().nsids("record"):
        for number in range(CASES_PER_TYPE):
            value = sample(catalog().definition(f"{nsid}#main"), rng, nsid)
            for _ in range(0 if number < 10 else rng.randint(1, 2)):
                mutate(value, rng)
            made.append((nsid, value))
    return made


def ask_npm(reference_node: tuple[str, Path], asked: list[tuple[str, Any]]) -> list[list[str | None]]:
    node, ref_dir = reference_node
    known = catalog()
    docs = [
        {"lexicon": 1, "id": nsid, "defs": ujson.loads(known._text[start:end])}
        for nsid, (_kind, start, end) in known._index.items()
    ]
    answer = subprocess.run(
        [node, str(FOLDER / "lexicon_oracle.mjs")],
        input=json.dumps({"docs": docs, "cases": asked}),
        env={**os.environ, "REF_DIR": str(ref_dir)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    answers = json.loads(answer.stdout.splitlines()[-1])
    assert len(answers) == len(asked)
    return list(answers)


def refusal(nsid: str, value: Any) -> str | None:
    """Why pds-lite refuses a record; "data model" if its JSON is none."""
    definition = catalog().get(nsid)
    assert definition is not None
    try:
        definition.check_record(from_json(copy.deepcopy(value)))
    except BadData:
        return "data model"
    except BadRecord as problem:
        return problem.message
    return None


SYNTAX_CHOICES = ("must be a uri", "must be a valid at-uri", "datetime (both RFC-3339 and ISO-8601)")


def explanation(value: Any, ours: str | None, pds: str | None) -> str | None:
    """Why pds-lite and the reference PDS may differ here; None if nothing explains it."""
    if ours == "data model":
        return "malformed links, bytes, blobs and $type are refused, not stored as plain maps"
    if ours is not None and ours.endswith(SYNTAX_CHOICES):
        return "a day that does not exist, a URI scheme led by a digit, an AT URI with a fragment (specs, vectors)"
    if ours is None and pds is not None and pds.startswith("Invalid uri"):
        return "a URI scheme may hold + - and . (RFC 3986)"
    if ours is not None and '#main"' in json.dumps(value):
        return "a union member named with #main is understood and checked"
    return None


@pytest.mark.parametrize("seed", [1, 2])
def test_records_are_accepted_and_refused_as_in_the_reference(reference_node: tuple[str, Path], seed: int) -> None:
    asked = cases(seed)
    answers = ask_npm(reference_node, asked)
    ours = [refusal(nsid, value) for nsid, value in asked]
    assert sum(reason is None for reason in ours) > len(asked) // 20, "the samples should not all be broken"
    assert sum(reason is not None for reason in ours) > len(asked) // 3
    different = [
        (nsid, value, mine, pds)
        for (nsid, value), mine, (_library, pds) in zip(asked, ours, answers, strict=True)
        if (mine is None) != (pds is None)
    ]
    assert [case for case in different if explanation(case[1], case[2], case[3]) is None] == [], f"seed {seed}"
    assert len(different) < len(asked) // 40


@pytest.mark.parametrize("seed", [3])
def test_the_library_differs_only_where_the_reference_server_agrees_with_us(
    reference_node: tuple[str, Path], seed: int
) -> None:
    """@atproto/lexicon, the older one, checks neither blob limits nor $type of refs, and takes broken dates."""
    asked = cases(seed)
    same_words = refused = 0
    for (nsid, value), (library, pds) in zip(asked, ask_npm(reference_node, asked), strict=True):
        mine = refusal(nsid, value)
        if (mine is None) != (library is None) and explanation(value, mine, pds) is None:
            assert (mine is None) == (pds is None), f"seed {seed}: {nsid} {value} {mine} {library} {pds}"
        if mine is not None and library is not None and mine != "data model":
            refused += 1
            same_words += mine == library
    assert same_words > refused // 2, "errors should read like the library's"


def test_valid_samples_are_valid_everywhere(reference_node: tuple[str, Path]) -> None:
    rng = random.Random(4)
    asked = [
        (nsid, sample(catalog().definition(f"{nsid}#main"), rng, nsid))
        for nsid in catalog().nsids("record")
        for _ in range(20)
    ]
    for (nsid, value), (library, pds) in zip(asked, ask_npm(reference_node, asked), strict=True):
        assert (refusal(nsid, value), pds) == (None, None), f"{nsid} {value}"
        # The library cannot follow a reference to a record, as site.standard.publication has one.
        assert library is None or library == "Unexpected lexicon type: record", f"{nsid} {value}"


def test_graphemes_are_counted_as_in_the_reference(reference_node: tuple[str, Path]) -> None:
    """Texts of emoji, flags, Hangul, Indic clusters and combining marks around the limit of 64 graphemes."""
    rng = random.Random(5)
    pieces = [
        "x", "é", "e\u0301", "\r\n", "\r", "\n", "👩‍👩‍👦‍👦", "🏳️‍🌈", "🇩🇪", "🇩", "각", "ᄀ", "ᅡ", "ᆨ", "नि",
        "\u200d", "\ufe0f", "👍🏽", "1️⃣", "ก็", "\u0600", "தி", "😀", "漢",
    ]  # fmt: skip
    asked = []
    for _ in range(400):
        tag = "".join(rng.choice(pieces) for _ in range(rng.randint(60, 80)))
        value = {"$type": "app.bsky.feed.post", "text": "", "createdAt": "2026-11-22T12:44:16Z", "tags": [tag]}
        asked.append(("app.bsky.feed.post", value))
    answers = ask_npm(reference_node, asked)
    assert {library is None for library, _pds in answers} == {True, False}
    for (nsid, value), (library, pds) in zip(asked, answers, strict=True):
        assert refusal(nsid, value) == library, ascii(value["tags"])
        assert (library is None) == (pds is None)
