"""Every com.atproto method of the lexicons is served, or refused with a reason."""

from pds_lite.atproto.lexicon.catalog import catalog
from pds_lite.xrpc import methods
from pds_lite.xrpc.router import METHODS, SUBSCRIPTIONS
from pds_lite.xrpc.unsupported import UNSUPPORTED


def test_every_method_of_the_catalogue_is_accounted_for() -> None:
    assert methods.com_atproto_server is not None
    served = {*METHODS, *SUBSCRIPTIONS}
    kinds = ("query", "procedure", "subscription")
    known = {nsid for kind in kinds for nsid in catalog().nsids(kind) if nsid.startswith("com.atproto.")}
    assert len(known) > 80

    assert known - served - UNSUPPORTED.keys() == set()
    assert served & UNSUPPORTED.keys() == set()
    assert {nsid for nsid in UNSUPPORTED if nsid not in known} == set()


def test_every_refusal_has_a_reason() -> None:
    assert all(len(reason) > 10 for reason in UNSUPPORTED.values())
