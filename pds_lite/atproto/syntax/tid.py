"""TID syntax (specs/tid), beside the other identifiers; making and reading TIDs is `pds_lite.atproto.tid`."""

from pds_lite.atproto.tid import Tid, is_tid, parse_tid

__all__ = ["Tid", "is_tid", "parse_tid"]
