"""DID syntax (specs/did): the general form, and the two methods that atproto accounts may use."""

import re
from typing import NewType

from pds_lite.atproto.syntax.handle import is_handle
from pds_lite.errors import BadSyntax

Did = NewType("Did", str)

MAX_DID = 2048
_DID = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]", re.ASCII)
_PLC = re.compile(r"did:plc:[a-z2-7]{24}", re.ASCII)
_LOCALHOST = re.compile(r"did:web:localhost(?:%3A[0-9]{1,5})?", re.ASCII)


def is_did(raw: str) -> bool:
    """True for a DID of any method: records may name methods that this server cannot resolve."""
    return len(raw) <= MAX_DID and _DID.fullmatch(raw) is not None


def parse_did(raw: str) -> Did:
    """Raises BadSyntax."""
    if not is_did(raw):
        raise BadSyntax(f"not a DID: {raw[:80]!r}")
    return Did(raw)


def is_plc_did(raw: str) -> bool:
    """did:plc and 24 letters of base32."""
    return _PLC.fullmatch(raw) is not None


def is_web_did(raw: str, dev: bool = False) -> bool:
    """did:web and a bare host name: no path, no port. In dev localhost passes too, with a port."""
    if raw.startswith("did:web:") and is_handle(raw[8:]):
        return True
    return dev and _LOCALHOST.fullmatch(raw) is not None


def is_account_did(raw: str, dev: bool = False) -> bool:
    """True for a DID that can name an atproto account: did:plc, or did:web with a bare host name."""
    return is_plc_did(raw) or is_web_did(raw, dev)
