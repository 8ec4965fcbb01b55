"""Services: the parts of a running PDS, joined once by `app` and passed to every handler as its first argument.

A handler takes what it needs from here and nothing from module globals, so tests build their own. The record knows no
behaviour; what two parts do together belongs to one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.net.http_client import HttpClient
    from pds_lite.services.access import AccessControl
    from pds_lite.services.account import Accounts
    from pds_lite.services.account_deletion import AccountDeletion
    from pds_lite.services.account_flows import AccountFlows
    from pds_lite.services.blobs import Blobs
    from pds_lite.services.browser_sessions import BrowserSessions
    from pds_lite.services.codes import Codes
    from pds_lite.services.crawlers import Crawlers
    from pds_lite.services.feed_generators import FeedGenerators
    from pds_lite.services.handle_change import HandleChange
    from pds_lite.services.handle_check import HandleCheck
    from pds_lite.services.identity import Identity
    from pds_lite.services.key_rotation import KeyRotation
    from pds_lite.services.key_store import Keys
    from pds_lite.services.mailer import Mailer
    from pds_lite.services.migration.runner import MigrationRunner
    from pds_lite.services.oauth.provider import OAuth
    from pds_lite.services.passkeys import Passkeys
    from pds_lite.services.plc_account import PlcAccount
    from pds_lite.services.plc_watch import PlcWatch
    from pds_lite.services.preferences import Preferences
    from pds_lite.services.proxy import Proxy
    from pds_lite.services.rate_limits import RateLimits
    from pds_lite.services.read_after_write import ReadAfterWrite
    from pds_lite.services.repo_import import RepoImport
    from pds_lite.services.repo_reader import RepoReader
    from pds_lite.services.repo_writer import RepoWriter
    from pds_lite.services.second_factor import SecondFactor
    from pds_lite.services.sequencer import Sequencer
    from pds_lite.services.service_auth import ServiceAuth
    from pds_lite.services.sessions import Sessions
    from pds_lite.services.sign_in import SignIn
    from pds_lite.services.sign_up import SignUp
    from pds_lite.services.takedowns import Takedowns
    from pds_lite.storage.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a handler may use. Built by app.py."""

    config: Config
    clock: Clock
    store: Store
    keys: Keys
    http: HttpClient
    limits: RateLimits
    identity: Identity
    account: Accounts
    """The one account: `account.account` is its row (None on an empty box), `account.require()` raises without one."""
    sessions: Sessions
    browsers: BrowserSessions
    """The owner's browsers, signed in to the pages."""
    second_factor: SecondFactor
    passkeys: Callable[[], Passkeys]
    """Makes the judge of passkeys when it is first called."""
    sign_in: SignIn
    """The door: password, second factor, throttle; `sign_in.log` is the sign-in log."""
    access: AccessControl
    service_auth: ServiceAuth
    oauth: Callable[[], OAuth]
    """Makes the authorization server when it is first called."""
    plc: PlcAccount
    """The account's did:plc: read, signed for, submitted."""
    plc_watch: PlcWatch
    handles: HandleChange
    handle_check: HandleCheck
    key_rotation: KeyRotation
    codes: Codes
    mailer: Mailer
    flows: AccountFlows
    """E-mail address, password reset and deletion, by codes."""
    deletion: AccountDeletion
    takedowns: Takedowns
    sign_up: SignUp
    proxy: Proxy
    feed_generators: FeedGenerators
    read_after_write: ReadAfterWrite
    preferences: Preferences
    sequencer: Sequencer
    blobs: Blobs
    repo: RepoWriter
    reader: RepoReader
    importer: RepoImport
    migration: Callable[[], MigrationRunner]
    """Makes the runner of the one job that moves an account in when it is first called."""
    crawlers: Crawlers
