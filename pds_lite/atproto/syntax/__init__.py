"""The identifiers of atproto, one kind a file: `is_x` answers, `parse_x` gives the typed text or raises BadSyntax."""

from pds_lite.atproto.syntax.at_identifier import AtIdentifier, is_at_identifier, parse_at_identifier
from pds_lite.atproto.syntax.at_uri import AtUri, is_at_uri, parse_at_uri
from pds_lite.atproto.syntax.cid import CidText, is_cid, parse_cid
from pds_lite.atproto.syntax.datetime import Datetime, is_datetime, parse_datetime
from pds_lite.atproto.syntax.did import Did, is_account_did, is_did, is_plc_did, is_web_did, parse_did
from pds_lite.atproto.syntax.handle import Handle, is_handle, is_reserved_handle, parse_handle
from pds_lite.atproto.syntax.language import Language, is_language, parse_language
from pds_lite.atproto.syntax.nsid import Nsid, is_nsid, nsid_authority, parse_nsid
from pds_lite.atproto.syntax.record_key import RecordKey, is_record_key, parse_record_key
from pds_lite.atproto.syntax.tid import Tid, is_tid, parse_tid
from pds_lite.atproto.syntax.uri import Uri, is_uri, parse_uri

__all__ = [
    "AtIdentifier",
    "AtUri",
    "CidText",
    "Datetime",
    "Did",
    "Handle",
    "Language",
    "Nsid",
    "RecordKey",
    "Tid",
    "Uri",
    "is_account_did",
    "is_at_identifier",
    "is_at_uri",
    "is_cid",
    "is_datetime",
    "is_did",
    "is_handle",
    "is_language",
    "is_nsid",
    "is_plc_did",
    "is_record_key",
    "is_reserved_handle",
    "is_tid",
    "is_uri",
    "is_web_did",
    "nsid_authority",
    "parse_at_identifier",
    "parse_at_uri",
    "parse_cid",
    "parse_datetime",
    "parse_did",
    "parse_handle",
    "parse_language",
    "parse_nsid",
    "parse_record_key",
    "parse_tid",
    "parse_uri",
]
