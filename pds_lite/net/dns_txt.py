"""TXT look-ups of `_atproto.<handle>` (specs/handle, "DNS TXT Method") and of `_lexicon.<authority>` (specs/lexicon).

dnspython is imported with the first one.
"""

from pds_lite.atproto.syntax import is_did
from pds_lite.config import parse_address
from pds_lite.errors import UpstreamFailure

TIMEOUT_S = 3.0
_MAX_RECORDS = 64


async def lookup_dids(domain: str, *, label: str = "_atproto", server: str | None = None) -> list[str]:
    """The different DIDs that the TXT records name: none, one, or a conflict. Records of other form are passed over.

    `server` is an address with an optional port in place of the system's resolvers. Raises UpstreamFailure when no
    server answers.
    """
    import dns.asyncresolver
    import dns.exception
    import dns.name
    import dns.resolver

    name = f"{label}.{domain}"
    try:
        resolver = dns.asyncresolver.Resolver(configure=server is None)
        if server is not None:
            address, resolver.port = parse_address(server, 53)
            resolver.nameservers = [address]
        answer = await resolver.resolve(dns.name.from_text(f"{name}."), "TXT", lifetime=TIMEOUT_S)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.name.LabelTooLong, dns.name.NameTooLong):
        return []
    except dns.resolver.NoResolverConfiguration:
        raise UpstreamFailure("no DNS server is configured on this machine") from None
    except (dns.exception.DNSException, OSError) as problem:
        raise UpstreamFailure(f"no DNS server answered for TXT {name} ({type(problem).__name__})") from None
    texts = [b"".join(record.strings).decode("utf-8", "replace") for record in list(answer)[:_MAX_RECORDS]]
    dids = [text[4:].strip() for text in texts if text.startswith("did=")]
    return sorted({did for did in dids if is_did(did)})
