"""The lexicon language: documents parsed (schema), known (catalog), and values checked (validate, params)."""

from pds_lite.atproto.lexicon.catalog import Catalog, Definition, catalog, check_record

__all__ = ["Catalog", "Definition", "catalog", "check_record"]
