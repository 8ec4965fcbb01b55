"""Language tag syntax (BCP 47, RFC 5646), with the primary subtag in lower case as atproto's test suite wants it."""

import re
from typing import NewType

from pds_lite.errors import BadSyntax

Language = NewType("Language", str)

MAX_LANGUAGE = 128
_GRANDFATHERED = frozenset(
    (
        "en-gb-oed",
        "i-ami",
        "i-bnn",
        "i-default",
        "i-enochian",
        "i-hak",
        "i-klingon",
        "i-lux",
        "i-mingo",
        "i-navajo",
        "i-pwn",
        "i-tao",
        "i-tay",
        "i-tsu",
        "sgn-be-fr",
        "sgn-be-nl",
        "sgn-ch-de",
        "art-lojban",
        "cel-gaulish",
        "no-bok",
        "no-nyn",
        "zh-guoyu",
        "zh-hakka",
        "zh-min",
        "zh-min-nan",
        "zh-xiang",
    )
)
_LANGUAGE = re.compile(
    r"[a-z]{2,3}(?:-[a-zA-Z]{3}){0,3}(?:-[a-zA-Z]{4})?(?:-(?:[a-zA-Z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-zA-Z0-9]{5,8}|[0-9][a-zA-Z0-9]{3}))*)"
    r"(?P<extensions>(?:-[0-9a-wy-zA-WY-Z](?:-[a-zA-Z0-9]{2,8})+)*)"
    r"(?:-[xX](?:-[a-zA-Z0-9]{1,8})+)?",
    re.ASCII,
)
_PRIVATE = re.compile(r"[xX](?:-[a-zA-Z0-9]{1,8})+", re.ASCII)
_PLAIN = re.compile(r"[a-z]{2,3}(?:-[A-Z]{2})?", re.ASCII)


def is_language(raw: str) -> bool:
    """True for a well-formed tag that repeats no variant and no extension."""
    if _PLAIN.fullmatch(raw):
        return True
    if len(raw) > MAX_LANGUAGE:
        return False
    match = _LANGUAGE.fullmatch(raw)
    if match is None:
        return raw.lower() in _GRANDFATHERED or _PRIVATE.fullmatch(raw) is not None
    variants = match["variants"].lower().split("-")[1:]
    singletons = [part for part in match["extensions"].lower().split("-") if len(part) == 1]
    return len(set(variants)) == len(variants) and len(set(singletons)) == len(singletons)


def parse_language(raw: str) -> Language:
    """Raises BadSyntax."""
    if not is_language(raw):
        raise BadSyntax(f"not a language tag: {raw[:80]!r}")
    return Language(raw)
