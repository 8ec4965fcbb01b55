"""Checks of values that hold no others: texts, numbers, byte strings, links, blobs (specs/lexicon, "Lexicon Types").

A check takes a value and returns nothing, or raises Refusal; what a lexicon says is worked out when the check is made,
so that running it only compares. Values are those of the data model: a link is a Cid, a byte string is bytes.
Refusals are worded like the reference's. This module must not know containers, references or paths.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pds_lite.atproto import syntax
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.lexicon.definitions import Integer, String
from pds_lite.errors import BadSyntax

Check = Callable[[Any], None]


class Refusal(Exception):
    """Why a value does not fit; `steps` lead from the refused value outwards. It never leaves this package."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def below(self, root: str) -> str:
        """The whole sentence, with the path that starts at `root`: "Record/embed/images/0 must be an object"."""
        return f"{'/'.join((root, *reversed(self.steps)))} {self.reason}"


_MAX_CID_TEXT: Final = 128


def _is_canonical_cid(text: str) -> bool:
    """A version 1 CID as atproto writes it. Stricter than the syntax, as in the reference: an index drops records whose
    strong references name no CID.
    """
    try:
        return len(text) <= _MAX_CID_TEXT and str(Cid.parse(text)) == text
    except BadSyntax:
        return False


_MAX_INTEGER: Final = (1 << 53) - 1
_FORMATS: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "at-identifier": (syntax.is_at_identifier, "must be a valid did or a handle"),
    "at-uri": (syntax.is_at_uri, "must be a valid at-uri"),
    "cid": (_is_canonical_cid, "must be a cid string"),
    "datetime": (syntax.is_datetime, "must be an valid atproto datetime (both RFC-3339 and ISO-8601)"),
    "did": (syntax.is_did, "must be a valid did"),
    "handle": (syntax.is_handle, "must be a valid handle"),
    "language": (syntax.is_language, "must be a well-formed BCP 47 language tag"),
    "nsid": (syntax.is_nsid, "must be a valid nsid"),
    "record-key": (syntax.is_record_key, "must be a valid Record Key"),
    "tid": (syntax.is_tid, "must be a valid TID"),
    "uri": (syntax.is_uri, "must be a uri"),
}
# The form that nearly every value of a format has: one match in C, against 0.3 to 1.7 us for the whole rule, which is
# asked only about the others. Each must match valid values alone (a test generates from them). Compiled when needed.
_PLC_DID = r"did:plc:[a-z2-7]{24}"
_SHORT_NSID = r"[a-z]{1,50}(?:\.[a-zA-Z]{1,50}){2,4}"
COMMON_FORMS: Final[Mapping[str, str]] = {
    "at-identifier": _PLC_DID,
    "at-uri": rf"at://{_PLC_DID}/{_SHORT_NSID}/[a-zA-Z0-9]{{1,512}}",
    "cid": r"baf[ky]rei[a-h][a-z2-7]{50}[aeimquy4]",
    "datetime": (
        r"20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
        r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,20})?Z"
    ),
    "did": _PLC_DID,
    "language": r"[a-z]{2}",
    "nsid": _SHORT_NSID,
}


def boolean(const: bool | None) -> Check:
    """A truth value; 0 and 1 are none."""

    def check(value: Any) -> None:
        if type(value) is not bool:
            raise Refusal("must be a boolean")
        if const is not None and value is not const:
            raise Refusal(f"must be {str(const).lower()}")

    return check


def integer(schema: Integer) -> Check:
    """An integer in its range, which is never wider than what JSON can carry (2^53 - 1)."""
    low = -_MAX_INTEGER if schema.minimum is None else schema.minimum
    high = _MAX_INTEGER if schema.maximum is None else schema.maximum
    choice = _choice(schema.const, schema.enum)

    def check(value: Any) -> None:
        if type(value) is not int:
            raise Refusal("must be an integer")
        if value > high:
            raise Refusal(f"can not be greater than {high}")
        if value < low:
            raise Refusal(f"can not be less than {low}")
        if choice is not None:
            choice(value)

    return check


def string(schema: String) -> Check:
    """A text: choice, length in UTF-8 bytes, graphemes and format, in this order."""
    tests: list[Check] = []
    choice = _choice(schema.const, schema.enum)
    if choice is not None:
        tests.append(choice)
    if schema.min_length is not None or schema.max_length is not None:
        tests.append(_byte_length(schema.min_length or 0, schema.max_length))
    if schema.min_graphemes is not None or schema.max_graphemes is not None:
        tests.append(_graphemes(schema.min_graphemes or 0, schema.max_graphemes))
    if schema.format is None:
        return _text(tuple(tests))
    tests.append(_format(schema.format))
    return tests[0] if len(tests) == 1 else _text(tuple(tests))


def one_of(allowed: Sequence[Any]) -> Check:
    """For a choice among texts; also among integers, for a value known to be one."""
    reason = f"must be one of ({'|'.join(map(str, allowed))})" if len(allowed) != 1 else f"must be {allowed[0]}"

    def check(value: Any) -> None:
        if value not in allowed:
            raise Refusal(reason)

    return check


def _choice(const: Any, enum: Sequence[Any] | None) -> Check | None:
    if const is None:
        return None if enum is None else one_of(enum)
    return one_of((const,) if enum is None or const in enum else ())


def _text(tests: tuple[Check, ...]) -> Check:
    def check(value: Any) -> None:
        if type(value) is not str:
            raise Refusal("must be a string")
        for test in tests:
            test(value)

    return check


def _format(name: str) -> Check:
    is_valid, reason = _FORMATS[name]
    is_common = re.compile(COMMON_FORMS[name]).fullmatch if name in COMMON_FORMS else is_valid

    def check(value: Any) -> None:
        if type(value) is not str:
            raise Refusal("must be a string")
        if not is_common(value) and not is_valid(value):
            raise Refusal(reason)

    return check


def _byte_length(low: int, high: int | None) -> Check:
    limit = _MAX_INTEGER if high is None else high

    def check(value: str) -> None:
        letters = len(value)
        if letters >= low and letters * 4 <= limit:
            return  # a letter has one to four bytes
        size = letters if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        if size > limit:
            raise Refusal(f"must not be longer than {limit} characters")
        if size < low:
            raise Refusal(f"must not be shorter than {low} characters")

    return check


def _graphemes(low: int, high: int | None) -> Check:
    limit = _MAX_INTEGER if high is None else high

    def check(value: str) -> None:
        count = len(value)
        if low == 0 and count <= limit:
            return  # a grapheme has at least one code point
        if count >= low:
            count = _count_graphemes(value)
        if count > limit:
            raise Refusal(f"must not be longer than {limit} graphemes")
        if count < low:
            raise Refusal(f"must not be shorter than {low} graphemes")

    return check


def _count_graphemes(text: str) -> int:
    """Extended grapheme clusters. In ASCII only CR LF joins two letters; importing regex takes 30 ms and 3 MB."""
    if text.isascii():
        return len(text) - text.count("\r\n")
    import regex

    return len(regex.findall(r"\X", text))


def byte_string(low: int, high: int | None) -> Check:
    """Bytes; the limits count bytes."""
    limit = _MAX_INTEGER if high is None else high

    def check(value: Any) -> None:
        if type(value) is not bytes:
            raise Refusal("must be a byte array")
        if len(value) > limit:
            raise Refusal(f"must not be larger than {limit} bytes")
        if len(value) < low:
            raise Refusal(f"must not be smaller than {low} bytes")

    return check


def cid_link(value: Any) -> None:
    """A link, of whichever kind of CID the data model let pass."""
    if type(value) is not Cid:
        raise Refusal("must be a CID")


def unknown(value: Any) -> None:
    """Any object. A blob, link or byte string is data of its own kind, in whichever form it comes."""
    if type(value) is not dict or value.get("$type") == "blob" or "$link" in value or "$bytes" in value:
        raise Refusal("must be an object")


def blob(accept: Sequence[str] | None, max_size: int | None) -> Check:
    """`accept` may hold globs: "image/*" and "*/*"."""
    anything = accept is None or "*/*" in accept
    exact = frozenset(accept or ())
    prefixes = tuple(glob[:-1] for glob in exact if glob.endswith("/*"))

    def check(value: Any) -> None:
        if not _is_blob(value):
            raise Refusal("should be a blob ref")
        mime_type = value["mimeType"]
        if not anything and not mime_type.startswith(prefixes) and mime_type not in exact:
            raise Refusal(f"must be a blob of type {', '.join(accept or ())}")
        if max_size is not None and value["size"] > max_size:
            raise Refusal(f"must be a blob of at most {max_size} bytes")

    return check


def _is_blob(value: Any) -> bool:
    """The shape of a blob reference (specs/data-model, "Blob Type"), without anything else beside it.

    Which CIDs may name a blob is the data model's rule: data.py refuses all but raw ones before a value gets here.
    """
    if type(value) is not dict or len(value) != 4 or value.get("$type") != "blob":
        return False
    ref, mime_type, size = value.get("ref"), value.get("mimeType"), value.get("size")
    return type(ref) is Cid and type(mime_type) is str and "/" in mime_type and type(size) is int and size >= 0
