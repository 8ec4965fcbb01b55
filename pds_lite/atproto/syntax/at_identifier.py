"""at-identifier syntax (specs/lexicon): a DID or a handle, wherever a method takes either."""

from typing import TypeAlias

from pds_lite.atproto.syntax.did import Did, is_did, parse_did
from pds_lite.atproto.syntax.handle import Handle, is_handle, parse_handle

AtIdentifier: TypeAlias = Did | Handle


def is_at_identifier(raw: str) -> bool:
    """True for a DID or a handle."""
    return is_did(raw) if raw.startswith("did:") else is_handle(raw)


def parse_at_identifier(raw: str) -> AtIdentifier:
    """A DID, or a handle in lower case; a handle cannot contain the colon that every DID has. Raises BadSyntax."""
    return parse_did(raw) if raw.startswith("did:") else parse_handle(raw)
