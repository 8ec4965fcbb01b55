"""How new records of the account go into an AppView's feeds, threads and profiles (app.bsky.feed.defs).

Views come out of JSON of another server: each function checks what it touches and raises NotUnderstood for any other
shape. Views are changed in place; a caller that catches NotUnderstood has kept the bytes they came from. Trees are
walked without recursion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from pds_lite.errors import PdsError

if TYPE_CHECKING:
    from pds_lite.services.local_views import LocalViews
    from pds_lite.services.recent_records import LocalRecord, NewRecords

View = dict[str, Any]
THREAD = "app.bsky.feed.defs#threadViewPost"
_REPOST = "app.bsky.feed.defs#reasonRepost"
_MEDIA = frozenset({"app.bsky.embed.images", "app.bsky.embed.video"})


class NotUnderstood(Exception):
    """The answer has not the shape of its lexicon."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """What the AppView lacks, of which account, and how it is shown."""

    did: str
    new: NewRecords
    views: LocalViews


def views(answer: View, name: str) -> list[View]:
    """The member `name`, which must be a list of objects."""
    members = answer.get(name)
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise NotUnderstood
    return members


def update_profile(view: View, fresh: Fresh) -> None:
    """A profileViewDetailed, if it is the account's and its profile changed."""
    if not isinstance(view.get("did"), str):
        raise NotUnderstood
    if view["did"] == fresh.did and fresh.new.profile is not None:
        fresh.views.update_detailed(view, fresh.new.profile)


def marked_feed(answer: View, fresh: Fresh) -> list[View]:
    """The feed of an answer, its posts marked with fresh likes, reposts and profile."""
    feed = views(answer, "feed")
    for item in feed:
        _mark(_post(item), fresh)
    return feed


async def insert_posts(feed: list[View], fresh: Fresh, posts: Sequence[LocalRecord]) -> None:
    """Puts posts (oldest first) where their time belongs; those from before the end of the page stay out."""
    known = {_post(item)["uri"] for item in feed}
    last = _time(feed[-1]) if feed else ""
    for post in posts:
        if post.uri in known or post.indexed_at <= last:
            continue
        view = await _view(post, fresh)
        place = next((index for index, item in enumerate(feed) if _time(item) < post.indexed_at), len(feed))
        feed.insert(place, {"post": view})


async def insert_likes(feed: list[View], fresh: Fresh) -> None:
    """Puts freshly liked posts at the top, the latest first. The AppView shows them, or they are the account's own."""
    known = {_post(item)["uri"] for item in feed}
    wanted = [uri for uri in fresh.new.likes if uri not in known]
    if not wanted:
        return
    shown: dict[Any, View] = {}
    own = {post.uri: post for post in fresh.new.posts}
    elsewhere = [uri for uri in wanted if uri not in own]
    try:
        if elsewhere:
            shown = {post.get("uri"): post for post in await fresh.views.posts(elsewhere)}
    except PdsError:
        pass
    for uri in wanted:
        if uri in own:
            feed.insert(0, {"post": await _view(own[uri], fresh)})
        elif uri in shown:
            _mark(_post({"post": shown[uri]}), fresh)
            feed.insert(0, {"post": shown[uri]})


def filtered(posts: Sequence[LocalRecord], wanted: str, did: str) -> list[LocalRecord]:
    """The posts that getAuthorFeed's `filter` lets through."""
    match wanted:
        case "posts_no_replies":
            return [post for post in posts if not parent_uri(post.value)]
        case "posts_and_author_threads":
            own = f"at://{did}/"
            return [post for post in posts if (parent_uri(post.value) or own).startswith(own)]
        case "posts_with_media":
            return [post for post in posts if _embedded(post.value) & _MEDIA]
        case "posts_with_video":
            return [post for post in posts if "app.bsky.embed.video" in _embedded(post.value)]
    return list(posts)


def is_thread(view: object) -> TypeGuard[View]:
    """True for a threadViewPost (not one that is blocked or not found)."""
    return isinstance(view, dict) and view.get("$type") == THREAD and isinstance(view.get("post"), dict)


async def thread_of(post: LocalRecord, fresh: Fresh) -> View:
    """A post of the account as a threadViewPost of its own."""
    return {"$type": THREAD, "post": await _view(post, fresh)}


async def insert_replies(thread: View, fresh: Fresh) -> None:
    """Puts the account's fresh replies under the posts they answer, and marks the posts of the whole thread."""
    nodes: dict[str, View] = {}
    for node in _nodes(thread):
        post = _post(node)
        _mark(post, fresh)
        nodes[post["uri"]] = node
    parents = {_post(node)["uri"] for node in _parents(thread)}
    for reply in fresh.new.posts:
        parent = parent_uri(reply.value)
        if parent is None or parent not in nodes or reply.uri in nodes or parent in parents:
            continue
        node = await thread_of(reply, fresh)
        nodes[parent]["replies"] = [node, *_replies(nodes[parent])]
        nodes[reply.uri] = node


def parent_uri(record: View) -> str | None:
    """What a post answers."""
    match record.get("reply"):
        case {"parent": {"uri": str(uri)}}:
            return uri
    return None


async def _view(post: LocalRecord, fresh: Fresh) -> View:
    view = await fresh.views.post(post)
    _mark(view, fresh)
    return view


def _post(item: View) -> View:
    """The post of a feed item or thread node, its fields that matter here checked."""
    post = item.get("post")
    if not isinstance(post, dict) or not isinstance(post.get("author"), dict):
        raise NotUnderstood
    if not isinstance(post.get("uri"), str) or not isinstance(post.get("indexedAt"), str):
        raise NotUnderstood
    return post


def _time(item: View) -> str:
    """What a feed is sorted by: when the item's post, or its repost, was indexed."""
    reason = item.get("reason")
    shown = reason if isinstance(reason, dict) and reason.get("$type") == _REPOST else _post(item)
    time = shown.get("indexedAt")
    if not isinstance(time, str):
        raise NotUnderstood
    return time


def _mark(post: View, fresh: Fresh) -> None:
    """The account's like, repost and profile on one postView."""
    new = fresh.new
    if new.profile is not None and post["author"].get("did") == fresh.did:
        fresh.views.update_basic(post["author"], new.profile)
    for name, count, records in (("like", "likeCount", new.likes), ("repost", "repostCount", new.reposts)):
        record = records.get(post["uri"])
        viewer = post.setdefault("viewer", {}) if record is not None else None
        if record is None or not isinstance(viewer, dict) or name in viewer:
            continue
        viewer[name] = record.uri
        if isinstance(post.get(count), int):
            post[count] += 1


def _nodes(thread: View) -> Iterator[View]:
    """The thread's posts: itself, everything below it, and the line of posts above."""
    yield from _parents(thread)
    waiting = [thread]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reply for reply in _replies(node) if is_thread(reply))


def _parents(thread: View) -> Iterator[View]:
    node = thread.get("parent")
    while is_thread(node):
        yield node
        node = node.get("parent")


def _replies(node: View) -> list[Any]:
    replies = node.get("replies") or []
    if not isinstance(replies, list):
        raise NotUnderstood
    return replies


def _embedded(record: View) -> frozenset[Any]:
    """The types of a post's embed and of the media in it."""
    match record.get("embed"):
        case {"$type": str(kind), "media": {"$type": str(media)}}:
            return frozenset({kind, media})
        case {"$type": str(kind)}:
            return frozenset({kind})
    return frozenset()
