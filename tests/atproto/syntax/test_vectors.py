"""Every line of the public syntax vectors, for every kind of identifier, through `is_x` and `parse_x` alike."""

from pathlib import Path

import pytest

from pds_lite.atproto import syntax
from pds_lite.errors import BadSyntax

KINDS = {
    "atidentifier": "at_identifier",
    "aturi": "at_uri",
    "cid": "cid",
    "datetime": "datetime",
    "did": "did",
    "handle": "handle",
    "language": "language",
    "nsid": "nsid",
    "recordkey": "record_key",
    "tid": "tid",
    "uri": "uri",
}


def lines(file: Path) -> list[str]:
    found = [line for line in file.read_text().split("\n") if line and not line.startswith("#")]
    assert found
    return found


def test_every_vector_file_is_used(vectors: Path) -> None:
    assert {file.stem.split("_")[0] for file in (vectors / "syntax").iterdir()} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_valid_vectors_pass(vectors: Path, kind: str) -> None:
    for line in lines(vectors / "syntax" / f"{kind}_syntax_valid.txt"):
        assert getattr(syntax, f"is_{KINDS[kind]}")(line), line
        parsed = getattr(syntax, f"parse_{KINDS[kind]}")(line)
        assert str(parsed) == (line.lower() if kind == "handle" or line == "XX.LCS.MIT.EDU" else line)


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_vectors_are_refused(vectors: Path, kind: str) -> None:
    for file in (vectors / "syntax").glob(f"{kind}_*_invalid.txt"):
        for line in lines(file):
            assert not getattr(syntax, f"is_{KINDS[kind]}")(line), line
            with pytest.raises(BadSyntax):
                getattr(syntax, f"parse_{KINDS[kind]}")(line)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_may_stand_before_or_behind(vectors: Path, kind: str) -> None:
    """A regular expression that ends in $ would let a line break pass."""
    for line in lines(vectors / "syntax" / f"{kind}_syntax_valid.txt"):
        for around in ("\n{}", "{}\n", " {}", "{} ", "{}\0"):
            assert not getattr(syntax, f"is_{KINDS[kind]}")(around.format(line)), line


@pytest.mark.parametrize("kind", KINDS)
def test_long_nonsense_is_refused_quickly(kind: str) -> None:
    for letter in "a.-:%/0=":
        for start in ("", "at://", "did:plc:", "a.b.", "https:"):
            assert not getattr(syntax, f"is_{KINDS[kind]}")(start + letter * 200_000 + "!")
