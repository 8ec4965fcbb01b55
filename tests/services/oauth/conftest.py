"""A checked store for these tests."""

from tests.store_fixture import checked_store

__all__ = ["checked_store"]
