"""The one error tree. Everything pds-lite raises on purpose is a PdsError.

    PdsError                      base; never raised itself
    +- BadInput                   400  what came from outside breaks a rule
    |  +- BadSyntax                    an identifier (DID, handle, NSID, TID, record key, AT URI, CID, datetime)
    |  +- BadData                      JSON, DAG-CBOR or a value outside the atproto data model
    |  +- BadCar                       a CAR that is truncated, too big, or whose blocks do not match their CIDs
    |  +- BadTree                      an MST that is not canonical, not complete, or over a limit
    |  +- BadCommit                    a commit of the wrong shape, DID, rev or signature
    |  +- BadKey                       a key, signature or JWT that does not parse
    |  +- BadRecord                    a record or XRPC body that its lexicon refuses
    |  +- InvalidSwap                  swapCommit or swapRecord did not match
    |  +- NotFound                     a record, blob, block, repo or method that is not here
    |  +- OAuthError                   a request that OAuth refuses; its name is RFC 6749's or an extension's
    |  +- TooLarge                413  a body over its limit
    |  +- AccountInactive              the account is deactivated
    +- Unauthorized               401  no, a wrong or a too weak credential (ExpiredToken and InvalidToken are 400)
    |  +- Forbidden               403  a good credential that may not do this
    +- RateLimited                429  come back later (retry_after seconds)
    +- Unavailable                503  the box cannot do it now
    |  +- StoreFull               507  no room on the disk; nothing was changed, reads go on
    |  +- ReadOnly                     the box stopped writing because it does not trust its own state
    |  +- ClockUntrusted               the clock contradicts the last commit or the build date
    +- UpstreamFailure            502  another server did not answer, or answered nonsense
    +- NotImplementedHere         501  a known method that this server does not serve
    +- StoreBroken                500  the store on disk is damaged, foreign or of another format
    +- ConfigError                500  a setting or a board file is wrong (a person must mend it)

`error` is the XRPC error name, `status` the HTTP status; both can be given per instance, since the lexicons name many
errors that differ in nothing else. `hint` is the sentence or command that mends it, for a person at a keyboard.
Messages must not contain secrets: they travel to clients and logs.
"""


class PdsError(Exception):
    """Base of the tree. `str(error)` is the message for the client."""

    error = "InternalServerError"
    status = 500

    def __init__(
        self, message: str = "", *, error: str | None = None, status: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if error is not None:
            self.error = error
        if status is not None:
            self.status = status


class BadInput(PdsError):
    error = "InvalidRequest"
    status = 400


class BadSyntax(BadInput):
    pass


class BadData(BadInput):
    pass


class BadCar(BadInput):
    pass


class BadTree(BadInput):
    pass


class BadCommit(BadInput):
    pass


class BadKey(BadInput):
    pass


class BadRecord(BadInput):
    pass


class InvalidSwap(BadInput):
    error = "InvalidSwap"


class NotFound(BadInput):
    """Give the lexicon's own name: RecordNotFound, RepoNotFound, BlobNotFound, BlockNotFound, HandleNotFound."""

    error = "NotFound"


class OAuthError(BadInput):
    """Give the name: invalid_request, invalid_client, invalid_grant, invalid_scope, use_dpop_nonce and the like."""

    error = "invalid_request"


class TooLarge(BadInput):
    error = "PayloadTooLarge"
    status = 413


class AccountInactive(BadInput):
    """Writes answer 401 AccountDeactivated, sync methods 400 RepoDeactivated: the caller names which."""

    error = "AccountDeactivated"
    status = 401


class Unauthorized(PdsError):
    error = "AuthenticationRequired"
    status = 401


class Forbidden(Unauthorized):
    error = "Forbidden"
    status = 403


class RateLimited(PdsError):
    error = "RateLimitExceeded"
    status = 429

    def __init__(self, message: str = "Rate limit exceeded", *, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(PdsError):
    error = "ServiceUnavailable"
    status = 503


class StoreFull(Unavailable):
    error = "StorageFull"
    status = 507


class ReadOnly(Unavailable):
    error = "ReadOnly"


class ClockUntrusted(Unavailable):
    error = "ClockUntrusted"


class UpstreamFailure(PdsError):
    error = "UpstreamFailure"
    status = 502


class UpstreamTimeout(UpstreamFailure):
    error = "UpstreamTimeout"
    status = 504


class NotImplementedHere(PdsError):
    error = "MethodNotImplemented"
    status = 501


class StoreBroken(PdsError):
    error = "StoreBroken"


class ConfigError(PdsError):
    error = "ConfigError"
