"""Every com.atproto method this server knows and does not answer itself, with the reason it gives.

A test fails unless each method of the lexicon catalogue is registered with the router or stands here, so a new lexicon
is noticed. The router answers 501 MethodNotImplemented with the reason.
"""

from __future__ import annotations

PASSED_ON = frozenset({"com.atproto.label.queryLabels"})
"""Of those below: AppViews answer them, so they are passed on like any method that is not ours. With an atproto-proxy
header every one of them is.
"""

_ONE_ACCOUNT = "This server has one account and no administrator besides its owner; use the pds-lite command"
_NO_INVITES = "This server has one account, so it gives out no invitations"
_NOT_YET = "Not served by this version"
_RELAY = "This is a method of relays"
_SERVICE = "This is a method of labelers and other services; name one with the atproto-proxy header"
_NOBODY = "No server implements this method"


def _each(namespace: str, names: str, reason: str) -> dict[str, str]:
    return {f"com.atproto.{namespace}.{name}": reason for name in names.split()}


UNSUPPORTED: dict[str, str] = {
    **_each("admin", "deleteAccount getAccountInfo getAccountInfos getSubjectStatus searchAccounts", _ONE_ACCOUNT),
    **_each("admin", "sendEmail updateAccountEmail updateAccountHandle updateAccountPassword", _ONE_ACCOUNT),
    **_each("admin", "updateAccountSigningKey updateSubjectStatus", _ONE_ACCOUNT),
    **_each("admin", "disableAccountInvites disableInviteCodes enableAccountInvites getInviteCodes", _NO_INVITES),
    **_each("identity", "refreshIdentity requestPlcOperationSignature signPlcOperation", _NOT_YET),
    **_each("identity", "submitPlcOperation updateHandle", _NOT_YET),
    **_each("label", "queryLabels subscribeLabels", _SERVICE),
    **_each("lexicon", "resolveLexicon", _NOT_YET),
    **_each("server", "confirmEmail deleteAccount requestAccountDelete requestEmailConfirmation", _NOT_YET),
    **_each("server", "requestEmailUpdate requestPasswordReset reserveSigningKey resetPassword updateEmail", _NOT_YET),
    **_each("server", "createInviteCode createInviteCodes getAccountInviteCodes", _NO_INVITES),
    **_each("sync", "getHostStatus listHosts listReposByCollection notifyOfUpdate requestCrawl", _RELAY),
    **_each("temp", "addReservedHandle fetchLabels requestPhoneVerification revokeAccountCredentials", _NOBODY),
    **_each("temp", "checkHandleAvailability dereferenceScope", _NOT_YET),
}
