"""A recovery key of the owner's, made on the owner's side: the box only ever hears its public half."""

from __future__ import annotations

import secrets
import sys


def show_new_recovery_key() -> str:
    """The did:key of a new key, whose private half is shown this once, on standard error."""
    from pds_lite.atproto.crypto import K256Key
    from pds_lite.atproto.crypto.private_key import format_private_key

    key = K256Key.generate(secrets.token_bytes(40))
    print(f"recovery key  {format_private_key(key)}", file=sys.stderr)
    print(
        "              Write it down: it overrules this box for your identity, and it is kept nowhere.",
        file=sys.stderr,
        flush=True,
    )
    return key.did_key
