"""Read-after-write: an AppView's answer, completed with the owner's records that it has not seen yet.

The answer's Atproto-Repo-Rev says up to where the AppView knows the repository. What was written later is merged in: a
changed profile, fresh posts in timeline, own feed and threads, fresh likes and reposts as marks on the posts they are
of. `Atproto-Upstream-Lag` tells how many milliseconds behind the AppView was. Clients rely on it: they post and read
the timeline a second later.

Rules that hold here
- An answer that is not understood, or not JSON, or too large, or cannot be completed soon, is passed on byte for byte.
- While the AppView is up to date, which is nearly always, the answer is not even looked into.
- Nothing is inserted twice: a record that the answer has already is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl

from pds_lite import ujson
from pds_lite.atproto.data import json_default
from pds_lite.atproto.syntax import is_tid
from pds_lite.atproto.tid import Tid
from pds_lite.errors import BadData, PdsError, UpstreamFailure
from pds_lite.services import feed_merges
from pds_lite.services.feed_merges import Fresh, NotUnderstood, View
from pds_lite.services.proxy import Pieces
from pds_lite.services.upstream import Answer, unpacked

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.services.access import Principal
    from pds_lite.services.account import Accounts
    from pds_lite.services.local_views import LocalViews
    from pds_lite.services.proxy import ProxiedCall, Proxy
    from pds_lite.services.recent_records import NewRecords, RecentRecords

MAX_MERGED = 4 << 20
"""Bytes of an answer, packed or not, that is looked into."""
MERGE_S = 5.0
"""For all that is asked of the AppView about fresh records: quoted posts, liked ones, parents."""
_REV = "atproto-repo-rev"
_GET_THREAD = "app.bsky.feed.getPostThread"
_MAX_PARENTS = 80


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked, besides the method."""

    params: Mapping[str, str]
    did: str
    handle: str

    @property
    def first_page(self) -> bool:
        return not self.params.get("cursor")

    @property
    def about_self(self) -> bool:
        """The parameter `actor` is the account."""
        actor = self.params.get("actor", "")
        return actor == self.did or actor.lower() == self.handle


Merge: TypeAlias = Callable[["ReadAfterWrite", View, Fresh, _Question], Awaitable[None]]


class ReadAfterWrite:
    """Passes on the methods of MERGES."""

    def __init__(
        self, clock: Clock, accounts: Accounts, proxy: Proxy, recent: RecentRecords, views: LocalViews
    ) -> None:
        self._clock = clock
        self._accounts = accounts
        self._proxy = proxy
        self._recent = recent
        self._views = views

    async def call(self, principal: Principal, asked: ProxiedCall) -> Answer:
        """Proxy.call, and its answer completed."""
        answer = await self._proxy.call(principal, asked)
        rev = answer.headers.get(_REV, "")
        if asked.verb != "GET" or not is_tid(rev):
            return answer
        new = self._recent.since(Tid(rev))
        if not new:
            return answer
        account = self._accounts.require()
        question = _Question(dict(parse_qsl(asked.query_string)), account.did, account.handle)
        fresh = Fresh(account.did, new, self._views)
        try:
            if answer.status == 200:
                return await self._completed(answer, MERGES[asked.nsid], fresh, question)
            if answer.error == "NotFound" and asked.nsid == _GET_THREAD:
                async with asyncio.timeout(MERGE_S):
                    return await self._local_thread(answer, fresh, question)
        except (NotUnderstood, BadData, TimeoutError):
            pass
        return answer

    async def _completed(self, answer: Answer, merge: Merge, fresh: Fresh, question: _Question) -> Answer:
        if "json" not in answer.headers.get("content-type", "").lower():
            return answer
        body = await answer.body.whole(MAX_MERGED) if isinstance(answer.body, Pieces) else answer.body
        if not isinstance(body, bytes):
            return answer
        whole = Answer(answer.status, _without_length(answer.headers), body)
        try:
            view = ujson.loads(unpacked(body, answer.headers.get("content-encoding", ""), MAX_MERGED))
            if not isinstance(view, dict):
                return whole
            async with asyncio.timeout(MERGE_S):
                await merge(self, view, fresh, question)
            return self._json(answer, view, fresh.new)
        except (NotUnderstood, BadData, UpstreamFailure, TimeoutError):
            return whole

    def _json(self, answer: Answer, view: View, new: NewRecords) -> Answer:
        lag = max(self._clock.now_us() - new.oldest_us, 0) // 1000
        kept = {name: text for name, text in answer.headers.items() if name.startswith("atproto-")}
        headers = {**kept, "content-type": "application/json; charset=utf-8", "atproto-upstream-lag": str(lag)}
        return Answer(200, headers, ujson.dumpb(view, json_default))

    # What is done to which answer

    async def _profile(self, view: View, fresh: Fresh, _question: _Question) -> None:
        feed_merges.update_profile(view, fresh)

    async def _profiles(self, view: View, fresh: Fresh, _question: _Question) -> None:
        for profile in feed_merges.views(view, "profiles"):
            feed_merges.update_profile(profile, fresh)

    async def _timeline(self, view: View, fresh: Fresh, question: _Question) -> None:
        feed = feed_merges.marked_feed(view, fresh)
        if question.first_page:
            await feed_merges.insert_posts(feed, fresh, fresh.new.posts)

    async def _author_feed(self, view: View, fresh: Fresh, question: _Question) -> None:
        feed = feed_merges.marked_feed(view, fresh)
        if question.first_page and question.about_self:
            shown = feed_merges.filtered(fresh.new.posts, question.params.get("filter", ""), question.did)
            await feed_merges.insert_posts(feed, fresh, shown)

    async def _likes(self, view: View, fresh: Fresh, question: _Question) -> None:
        feed = feed_merges.marked_feed(view, fresh)
        if question.first_page and question.about_self:
            await feed_merges.insert_likes(feed, fresh)

    async def _thread(self, view: View, fresh: Fresh, _question: _Question) -> None:
        thread = view.get("thread")
        if not feed_merges.is_thread(thread):
            raise NotUnderstood
        await feed_merges.insert_replies(thread, fresh)

    async def _local_thread(self, answer: Answer, fresh: Fresh, question: _Question) -> Answer:
        """The thread of a post that the AppView does not know yet, which it may be the owner's first to open."""
        uri = question.params.get("uri", "")
        own_handle = f"at://{question.handle}/"
        if uri.lower().startswith(own_handle):
            uri = f"at://{question.did}/{uri[len(own_handle) :]}"
        posts = {post.uri: post for post in fresh.new.posts}
        if uri not in posts:
            return answer
        thread = await feed_merges.thread_of(posts[uri], fresh)
        top, parent = thread, feed_merges.parent_uri(posts[uri].value)
        for _ in range(_MAX_PARENTS):
            if parent not in posts:
                break
            top["parent"] = await feed_merges.thread_of(posts[parent], fresh)
            top, parent = top["parent"], feed_merges.parent_uri(posts[parent].value)
        if parent:
            await self._add_parents(top, parent, question)
        await feed_merges.insert_replies(thread, fresh)
        return self._json(answer, {"thread": thread}, fresh.new)

    async def _add_parents(self, top: View, parent: str, question: _Question) -> None:
        height = question.params.get("parentHeight", "")
        params = {"uri": parent, "depth": 0, "parentHeight": height if height.isdigit() else _MAX_PARENTS}
        try:
            found = (await self._proxy.ask_appview(_GET_THREAD, params)).get("thread")
        except PdsError:
            return
        if isinstance(found, dict):
            top["parent"] = found


def _without_length(headers: Mapping[str, str]) -> dict[str, str]:
    """The body is whole now; its length is counted where it leaves."""
    return {name: text for name, text in headers.items() if name != "content-length"}


MERGES: dict[str, Merge] = {
    "app.bsky.actor.getProfile": ReadAfterWrite._profile,
    "app.bsky.actor.getProfiles": ReadAfterWrite._profiles,
    "app.bsky.feed.getTimeline": ReadAfterWrite._timeline,
    "app.bsky.feed.getAuthorFeed": ReadAfterWrite._author_feed,
    "app.bsky.feed.getActorLikes": ReadAfterWrite._likes,
    _GET_THREAD: ReadAfterWrite._thread,
}
"""What the reference completes. getPostThreadV2 it passes on as it comes, too."""
