"""The application: the only place where the parts are joined.

`build` opens the store and makes every service from a Config and a Clock; `App.start` loads what they keep in memory,
`App.serve` adds the network until it is told to end, and `App.stop` closes everything. The command line does a single
thing without serving through `open_box`. Nothing here decides anything: a rule is found in the service it belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pds_lite import __version__
from pds_lite import config as settings
from pds_lite.box import board, control
from pds_lite.clock import Clock
from pds_lite.errors import ConfigError, PdsError
from pds_lite.net.http_client import HttpClient
from pds_lite.services import key_store, passwords
from pds_lite.services.access import AccessControl
from pds_lite.services.account import Accounts
from pds_lite.services.account_deletion import AccountDeletion
from pds_lite.services.account_flows import AccountFlows
from pds_lite.services.blobs import Blobs
from pds_lite.services.browser_sessions import BrowserSessions
from pds_lite.services.bundle import Services
from pds_lite.services.codes import Codes
from pds_lite.services.crawlers import Crawlers
from pds_lite.services.feed_generators import FeedGenerators
from pds_lite.services.foundation import Foundation
from pds_lite.services.handle_change import HandleChange
from pds_lite.services.handle_check import HandleCheck
from pds_lite.services.identity import Identity
from pds_lite.services.key_rotation import KeyRotation
from pds_lite.services.local_views import LocalViews
from pds_lite.services.mailer import Mailer
from pds_lite.services.plc_account import PlcAccount
from pds_lite.services.plc_watch import PlcWatch
from pds_lite.services.preferences import Preferences
from pds_lite.services.proxy import Proxy
from pds_lite.services.proxy_targets import ProxyTargets
from pds_lite.services.rate_limits import RateLimits
from pds_lite.services.read_after_write import ReadAfterWrite
from pds_lite.services.recent_records import RecentRecords
from pds_lite.services.repo_import import RepoImport
from pds_lite.services.repo_reader import RepoReader
from pds_lite.services.repo_writer import RepoWriter
from pds_lite.services.second_factor import SecondFactor
from pds_lite.services.sequencer import Sequencer, Window
from pds_lite.services.service_auth import ServiceAuth
from pds_lite.services.sessions import Sessions
from pds_lite.services.sign_in import SignIn
from pds_lite.services.sign_in_log import SignInLog
from pds_lite.services.sign_up import SignUp
from pds_lite.services.takedowns import Takedowns
from pds_lite.services.throttle import Throttle
from pds_lite.storage import migration_store
from pds_lite.storage.blob_store import BLOB_FOLDER, BlobStore
from pds_lite.storage.store import STORE_FOLDER, Store, StoreLimits

if TYPE_CHECKING:
    from pds_lite.config import Config
    from pds_lite.http.asgi import HttpEdge
    from pds_lite.http.server import Server
    from pds_lite.services.migration.runner import MigrationRunner
    from pds_lite.services.oauth.provider import OAuth
    from pds_lite.services.passkeys import Passkeys

log = logging.getLogger(__name__)

HOUSEKEEPING_S = 60.0
PUBLISH_RETRY_S = (30.0, 3600.0)
"""First and longest wait between attempts to publish a DID that was made offline."""


class App:
    """A box in this process: its services, and what runs beside them."""

    def __init__(self, services: Services, limits: board.Limits) -> None:
        self.services = services
        self._limits = limits
        self._tasks: list[asyncio.Task[None]] = []
        self._server: Server | None = None

    def start(self) -> None:
        """Loads what the services keep in memory. In a running event loop. Raises StoreBroken."""
        services = self.services
        services.account.start()
        services.takedowns.start()
        services.sessions.start()
        services.browsers.start()
        services.second_factor.start()
        services.sign_in.log.start()
        services.sequencer.start()
        services.repo.start()
        services.importer.start()

    async def stop(self) -> None:
        """Saves what is worth saving and closes the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.services.sequencer.stop()
        if self._has_migration():
            await self.services.migration().stop()
        await self.services.importer.stop()
        with contextlib.suppress(PdsError):  # a full or broken disk is no reason not to end
            await self.services.sign_in.log.save(now=True)
            await self.services.repo.stop()
        await self.services.http.close()
        self.services.store.close()

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serves until SIGTERM or SIGINT; `ready` is called when requests are answered."""
        services = self.services
        self._server = server = build_server(services, build_edge(services), self._limits, ready)
        config = services.config
        listener = listen_at(config.unix_socket) if config.unix_socket else listen(config.host, config.port)
        control_server = control.ControlServer(services.config.data_dir, control_commands(services))
        await control_server.start()
        services.crawlers.start()
        services.plc_watch.start()
        if self._has_migration():
            services.migration().resume()
        announcer = self._announcer()
        self._tasks = [
            asyncio.create_task(coroutine)
            for coroutine in (
                _every(HOUSEKEEPING_S, self._keep_house),
                self._publish(),
                self._finish(),
            )
        ]
        try:
            with _signals(self.end):
                await server.serve([listener])
        finally:
            await control_server.stop()
            await services.crawlers.stop()
            await services.plc_watch.stop()
            await services.mailer.stop()
            if announcer is not None:
                await announcer.stop()

    def end(self) -> None:
        """Makes `serve` return, as SIGTERM does."""
        if self._server is not None:
            self._server.force_exit = self._server.should_exit  # asked twice: do not wait for anybody
            self._server.should_exit = True

    def _has_migration(self) -> bool:
        with self.services.store.read() as txn:
            return migration_store.get_migration(txn) is not None

    async def _keep_house(self) -> None:
        await self.services.sequencer.prune()
        await self.services.blobs.sweep()
        await self.services.repo.save_tree_if_due()
        await self.services.sign_in.log.save()
        await self.services.browsers.save()
        await self.services.sessions.save()

    async def _publish(self) -> None:
        """Publishes a DID that was made offline, as soon as there is a network. Development boxes wait to be told."""
        wait, longest = PUBLISH_RETRY_S
        account = self.services.account.account
        while account is not None and account.plc_op is not None and not self.services.config.dev:
            try:
                await self.services.account.publish()
                log.info("published %s", account.did)
                self.services.crawlers.ask_now()
                return
            except PdsError as problem:
                log.warning("could not publish %s yet: %s", account.did, problem.message)
            await asyncio.sleep(wait)
            wait = min(wait * 2, longest)

    async def _finish(self) -> None:
        """Ends what a power cut ended in the middle: the deletion of an account, the rotation of a key."""
        with contextlib.suppress(PdsError):  # a full disk: what is left is left for the next start
            await self.services.deletion.resume()
        wait, longest = PUBLISH_RETRY_S
        while self.services.key_rotation.is_unfinished:
            with contextlib.suppress(PdsError):
                await self.services.key_rotation.finish()
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, longest)

    def _announcer(self) -> Any:
        """The box on the LAN, unless switched off."""
        if not self.services.config.mdns:
            return None
        from pds_lite.box.mdns import Announcer
        from pds_lite.box.mdns_claim import Claim

        accounts, box_key = self.services.account, self.services.keys.box

        def claim() -> Claim:
            account = accounts.account
            return Claim(account.did if account else "", account.handle if account else "", __version__)

        announcer = Announcer(claim, self.services.config.lan_port, box_key.public_key, box_key.sign)
        announcer.start()
        return announcer


def build(config: Config, clock: Clock | None = None) -> App:
    """Opens the store and joins the services. In a running event loop. Raises what Store.open and board files raise."""
    clock = clock or Clock()
    limits = board.detect().limits
    passwords.set_cost(limits.argon2_mb, limits.argon2_ops)
    store = Store.open(config.data_dir / STORE_FOLDER, StoreLimits(map_bytes=limits.map_mb << 20))
    try:
        return App(_join(config, clock, store, limits), limits)
    except BaseException:
        store.close()
        raise


def _join(config: Config, clock: Clock, store: Store, limits: board.Limits) -> Services:
    keys = _keys(store)
    http = HttpClient(ca_file=str(config.ca_file) if config.ca_file else None, allow_loopback=config.dev)
    identity = Identity(config, clock, http, store, max_entries=limits.did_cache)
    window = Window(int(config.firehose_window_s * 1_000_000), min(config.firehose_bytes, limits.event_log_mb << 20))
    sequencer = Sequencer(store, clock, window, limits.subscribers)
    repo = RepoWriter(store, clock, sequencer, keys.signing, dev=config.dev, overlay_bytes=limits.overlay_mb << 20)
    sessions = Sessions(config, clock, store, keys)
    base = Foundation(config, clock, store, keys, identity, repo)
    accounts = Accounts(base, sessions)
    # cache: imported and made on the first call, so that no start waits for it.
    oauth = cache(lambda: _make_oauth(base, http, sessions))
    service_auth = ServiceAuth(config, clock, keys, identity, accounts)
    limits_of_rate = RateLimits(clock, enabled=config.rate_limits)
    browsers = BrowserSessions(clock, store)
    second_factor = SecondFactor(clock, store)
    sign_in_log = SignInLog(clock, store)
    sessions.also_end += [browsers.end_all, second_factor.reread]
    throttle = Throttle(clock, sign_in_log.is_known, enabled=config.rate_limits)
    plc = PlcAccount(base, accounts)
    codes, mailer = Codes(clock, store, keys), Mailer(config)
    proxy = Proxy(http, ProxyTargets(config, identity), service_auth)
    recent = RecentRecords(store, repo)
    views = LocalViews(config.public_url, accounts, recent, proxy)
    blobs = Blobs(store, BlobStore(config.data_dir / BLOB_FOLDER), clock, config.blob_limit)
    importer = RepoImport(store, repo, identity, clock, config.data_dir, config.import_limit)
    takedowns = Takedowns(store, accounts, sessions)
    deletion = AccountDeletion(
        store,
        keys,
        takedowns=takedowns,
        sign_in_log=sign_in_log,
        accounts=accounts,
        sessions=sessions,
        repo=repo,
        importer=importer,
        blobs=blobs,
        sequencer=sequencer,
    )
    services = Services(
        config=config,
        clock=clock,
        store=store,
        keys=keys,
        http=http,
        limits=limits_of_rate,
        identity=identity,
        account=accounts,
        sessions=sessions,
        browsers=browsers,
        second_factor=second_factor,
        passkeys=cache(lambda: _make_passkeys(base, accounts)),
        sign_in=SignIn(accounts, limits_of_rate, throttle, second_factor, sign_in_log, clock),
        access=AccessControl(config, sessions, service_auth, oauth, throttle),
        service_auth=service_auth,
        oauth=oauth,
        plc=plc,
        plc_watch=PlcWatch(
            store, clock, identity=identity, accounts=accounts, plc_account=plc, every=config.plc_watch_s
        ),
        handles=HandleChange(config, identity, accounts, plc),
        handle_check=HandleCheck(config, clock, identity, accounts),
        key_rotation=KeyRotation(base, accounts, plc),
        codes=codes,
        mailer=mailer,
        flows=AccountFlows(clock, accounts, codes, mailer, deletion),
        deletion=deletion,
        takedowns=takedowns,
        sign_up=SignUp(base, accounts),
        proxy=proxy,
        feed_generators=FeedGenerators(store, clock, http, identity, accounts, proxy),
        read_after_write=ReadAfterWrite(clock, accounts, proxy, recent, views),
        preferences=Preferences(store, clock),
        sequencer=sequencer,
        blobs=blobs,
        repo=repo,
        reader=RepoReader(store, repo.snapshots, clock, limits.exports),
        importer=importer,
        migration=cache(lambda: _make_migration(services)),
        crawlers=Crawlers(
            http,
            clock,
            config.relays,
            config.hostname,
            crawlable=lambda: accounts.is_public,
            followers=lambda: sequencer.subscribers,
        ),
    )
    return services


def _make_oauth(base: Foundation, http: HttpClient, sessions: Sessions) -> OAuth:
    """The authorization server, for the first app that asks for it."""
    from pds_lite.services.oauth.provider import OAuth

    oauth = OAuth(base.config, base.clock, base.store, base.keys, http=http, identity=base.identity)
    sessions.also_end.append(oauth.grants.end_all)  # until it is made, no grant is in memory
    return oauth


def _make_passkeys(base: Foundation, accounts: Accounts) -> Passkeys:
    """The judge of passkeys, for the first page that may need it."""
    from pds_lite.services.passkeys import Passkeys

    return Passkeys(base.config, base.clock, base.store, base.keys, accounts)


def _make_migration(services: Services) -> MigrationRunner:
    """The runner of the job that moves an account in, where there is one."""
    from pds_lite.services.migration.runner import MigrationRunner

    return MigrationRunner(services)


def _keys(store: Store) -> key_store.Keys:
    """The box's keys, made when the store is opened for the first time."""
    with store.read() as txn:
        keys = key_store.load(txn)
    if keys is None:
        keys = key_store.generate()
        store.write_sync(lambda txn: key_store.save(txn, keys), "keys")
    return keys


def build_edge(services: Services) -> HttpEdge:
    """The ASGI application: XRPC, the web pages, and the stream."""
    from pds_lite.http.asgi import HttpEdge, WebApp
    from pds_lite.http.client_address import ProxyTrust
    from pds_lite.web import account, home, oauth, pages, well_known
    from pds_lite.xrpc import methods  # noqa: F401 - registers every method with the router
    from pds_lite.xrpc.proxying import pass_on
    from pds_lite.xrpc.router import Router

    app = WebApp()
    router = Router(services, proxy=pass_on)
    router.install(app)
    well_known.mount(app, services)
    home.mount(app, services)
    oauth.mount(app, services)
    pages.mount(app)
    account.mount(app, services)
    return HttpEdge(app, router.websocket, ProxyTrust(services.config.trusted_proxies))


def build_server(services: Services, edge: HttpEdge, limits: board.Limits, ready: Callable[[], None]) -> Server:
    """The server; calls `ready` when it listens, and lets the stream's subscribers go the moment it begins to end."""
    from pds_lite.http.protocol import ConnectionLimits
    from pds_lite.http.server import build_server as build_http_server

    config = services.config
    return build_http_server(
        edge,
        host=config.host,
        port=config.port,
        limits=ConnectionLimits(connections=min(config.max_connections, limits.connections)),
        on_ready=ready,
        on_ending=services.sequencer.stop,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a port in use is our sentence and not a library's. Raises ConfigError."""
    try:
        family, _kind, _protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=256)
    except OSError as problem:
        is_taken = problem.errno == errno.EADDRINUSE
        reason = (problem.strerror or str(problem)).partition(" (while")[0]  # create_server adds the address
        raise ConfigError(
            f"cannot listen on {host} port {port}: {reason}",
            hint="pds-lite serve --port N    takes another one" if is_taken else "pds-lite serve --host 127.0.0.1",
        ) from None
    # Accepted connections inherit it. asyncio sets it only on sockets that were made with the protocol's number, and
    # without it the end of an answer waits up to 40 ms for the other side's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def listen_at(path: Path) -> socket.socket:
    """A listening unix socket in place of one that an earlier server left there. Raises ConfigError.

    Every user may connect, as to a port of this machine: the proxy in front runs as a user of its own.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _refuse_if_answered(path)
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(256)
    except OSError as problem:
        listener.close()
        raise ConfigError(f"cannot listen on unix_socket = {str(path)!r}: {problem.strerror or problem}") from None
    return listener


def _refuse_if_answered(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "another server answers there")


def control_commands(services: Services) -> dict[str, control.Command]:
    """The commands of the control socket, bound to these services."""
    from pds_lite.box.commands import COMMANDS

    def bind(command: Any) -> control.Command:
        return lambda parameters, channel: command(services, parameters, channel)

    return {name: bind(command) for name, command in COMMANDS.items()}


@contextlib.asynccontextmanager
async def open_box(data_dir: Path) -> AsyncIterator[Services]:
    """The services of a box that nobody serves, for one command. Raises Unavailable while a daemon holds the store."""
    app = build(settings.load(data_dir))
    try:
        app.start()
        yield app.services
    finally:
        await app.stop()


@contextlib.contextmanager
def _signals(end: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `end`; outside the main thread (tests) nothing does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Repeats what must not stop because it failed once (a full disk, say)."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except PdsError as problem:
            log.warning("housekeeping: %s", problem.message)
