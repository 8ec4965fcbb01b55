"""Own records in the shapes of an AppView's answers (app.bsky.feed.defs and its neighbours).

Only what a client needs until the AppView has the record: counts are nought, pictures come from this server's own
getBlob, and a quoted record is asked of the AppView. What is not in the record, or not of its lexicon's shape, is left
out; nothing here fails for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pds_lite.atproto.cid import Cid
from pds_lite.errors import PdsError

if TYPE_CHECKING:
    from pds_lite.services.account import Accounts
    from pds_lite.services.proxy import Proxy
    from pds_lite.services.recent_records import LocalRecord, RecentRecords

View = dict[str, Any]

_EMBED = "app.bsky.embed."
_BASIC = ("displayName", "pronouns")
_DETAILED = ("displayName", "pronouns", "description", "website", "pinnedPost")


class LocalViews:
    """Makes views of the account's records."""

    def __init__(self, public_url: str, accounts: Accounts, recent: RecentRecords, proxy: Proxy) -> None:
        self._public_url = public_url
        self._accounts = accounts
        self._recent = recent
        self._proxy = proxy

    def author(self) -> View:
        """The account as app.bsky.actor.defs#profileViewBasic."""
        account = self._accounts.require()
        view: View = {"did": account.did, "handle": account.handle}
        profile = self._recent.read_profile(account.did)
        if profile is not None:
            self.update_basic(view, profile)
        return view

    def update_basic(self, view: View, profile: LocalRecord) -> None:
        """Brings a profileViewBasic up to date."""
        _copy(profile.value, view, _BASIC)
        self._picture(view, "avatar", profile.value)

    def update_detailed(self, view: View, profile: LocalRecord) -> None:
        """Brings a profileViewDetailed up to date."""
        _copy(profile.value, view, _DETAILED)
        self._picture(view, "avatar", profile.value)
        self._picture(view, "banner", profile.value)

    async def post(self, post: LocalRecord) -> View:
        """A post as app.bsky.feed.defs#postView."""
        view: View = {
            "uri": post.uri,
            "cid": post.cid,
            "author": self.author(),
            "record": post.value,
            "replyCount": 0,
            "repostCount": 0,
            "likeCount": 0,
            "quoteCount": 0,
            "indexedAt": post.indexed_at,
        }
        embed = await self._embed(post.value.get("embed"))
        return view if embed is None else {**view, "embed": embed}

    def _picture(self, view: View, name: str, record: dict[str, Any]) -> None:
        url = self._blob_url(record.get(name))
        if url is None:
            view.pop(name, None)
        else:
            view[name] = url

    def _blob_url(self, blob: Any) -> str | None:
        cid = blob.get("ref") if isinstance(blob, dict) else None
        if type(cid) is not Cid:
            return None
        did = self._accounts.require().did
        return f"{self._public_url}/xrpc/com.atproto.sync.getBlob?did={did}&cid={cid}"

    async def _embed(self, embed: Any) -> View | None:
        """The view of a record's embed, None for kinds that only the AppView can show (video)."""
        if not isinstance(embed, dict):
            return None
        match embed.get("$type"):
            case "app.bsky.embed.record":
                return await self._quote(embed)
            case "app.bsky.embed.recordWithMedia":
                media, quote = self._media(embed.get("media")), embed.get("record")
                if media is None or not isinstance(quote, dict):
                    return None
                return {"$type": f"{_EMBED}recordWithMedia#view", "media": media, "record": await self._quote(quote)}
        return self._media(embed)

    def _media(self, embed: Any) -> View | None:
        match embed:
            case {"$type": "app.bsky.embed.images", "images": [*images]}:
                return {"$type": f"{_EMBED}images#view", "images": [self._image(each) for each in images]}
            case {"$type": "app.bsky.embed.external", "external": dict(external)}:
                view = {name: external.get(name, "") for name in ("uri", "title", "description")}
                thumb = self._blob_url(external.get("thumb"))
                return {
                    "$type": f"{_EMBED}external#view",
                    "external": view if thumb is None else {**view, "thumb": thumb},
                }
        return None

    def _image(self, image: Any) -> View:
        image = image if isinstance(image, dict) else {}
        url = self._blob_url(image.get("image")) or ""
        view: View = {"thumb": url, "fullsize": url, "alt": image.get("alt", "")}
        return {**view, "aspectRatio": image["aspectRatio"]} if "aspectRatio" in image else view

    async def _quote(self, embed: dict[str, Any]) -> View:
        match embed.get("record"):
            case {"uri": str(uri)}:
                view = await self._quoted(uri)
                missing = {"$type": f"{_EMBED}record#viewNotFound", "uri": uri, "notFound": True}
                return {"$type": f"{_EMBED}record#view", "record": view or missing}
        return {"$type": f"{_EMBED}record#view", "record": {"$type": f"{_EMBED}record#viewNotFound", "notFound": True}}

    async def _quoted(self, uri: str) -> View | None:
        """What the AppView shows at a URI; None if it does not, or fails."""
        collection = uri.split("/")[3] if uri.count("/") == 4 else ""
        try:
            match collection:
                case "app.bsky.feed.post":
                    return _quoted_post(await self.posts([uri]))
                case "app.bsky.feed.generator":
                    answer = await self._proxy.ask_appview("app.bsky.feed.getFeedGenerator", {"feed": uri})
                    return _typed(answer.get("view"), "app.bsky.feed.defs#generatorView")
                case "app.bsky.graph.list":
                    answer = await self._proxy.ask_appview("app.bsky.graph.getList", {"list": uri, "limit": 1})
                    return _typed(answer.get("list"), "app.bsky.graph.defs#listView")
        except PdsError:
            pass
        return None

    async def posts(self, uris: list[str]) -> list[View]:
        """The AppView's postViews of these posts, at most 25. Raises UpstreamFailure."""
        posts = (await self._proxy.ask_appview("app.bsky.feed.getPosts", {"uris": uris})).get("posts")
        return [post for post in posts if isinstance(post, dict)] if isinstance(posts, list) else []


def _copy(record: dict[str, Any], view: View, names: tuple[str, ...]) -> None:
    for name in names:
        if name in record:
            view[name] = record[name]
        else:
            view.pop(name, None)


def _quoted_post(posts: list[View]) -> View | None:
    if not posts:
        return None
    post = posts[0]
    view = {"$type": f"{_EMBED}record#viewRecord", "value": post.get("record")}
    view |= {name: post[name] for name in ("uri", "cid", "author", "labels", "indexedAt") if name in post}
    return {**view, "embeds": [post["embed"]]} if "embed" in post else view


def _typed(view: Any, kind: str) -> View | None:
    return {**view, "$type": kind} if isinstance(view, dict) else None
