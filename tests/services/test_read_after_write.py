"""Read-after-write: what the owner has just written shows in the AppView's answers, and nothing else changes there."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from pds_lite.services import read_after_write
from tests.fake_service import JSON, Asked, FakeService, Reply, fake_service
from tests.live_box import HANDLE, LiveBox, live_box

OTHER = "did:plc:bv6ggog3tya2z3vxsub7hnal"
FEED = "app.bsky.feed."
ACTOR = "app.bsky.actor."


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveBox, FakeService, str]]:
    with fake_service() as appview:
        folder = tmp_path_factory.mktemp("raw") / "box"
        with live_box(folder, appview_url=appview.url, appview_did="did:web:appview.example", rate_limits=False) as box:
            yield box, appview, box.token()


@pytest.fixture
def appview(running: tuple[LiveBox, FakeService, str]) -> FakeService:
    service = running[1]
    service.asked.clear()
    service.answers.clear()
    return service


@pytest.fixture
def owner(running: tuple[LiveBox, FakeService, str], appview: FakeService) -> Owner:
    return Owner(running[0], running[2])


class Owner:
    """The account's client."""

    def __init__(self, box: LiveBox, token: str) -> None:
        self.box, self.token, self.did = box, token, box.did

    def get(self, nsid: str, **params: Any) -> Any:
        return self.box.get(nsid, self.token, **params)

    @property
    def rev(self) -> str:
        rev: str = self.box.get("com.atproto.sync.getLatestCommit", did=self.did).json["rev"]
        return rev

    def write(self, collection: str, record: dict[str, Any], **more: Any) -> Any:
        body = {"repo": self.did, "collection": collection, "record": {"createdAt": _now(), **record}, **more}
        name = "putRecord" if "rkey" in more else "createRecord"
        answer = self.box.post(f"com.atproto.repo.{name}", body, self.token)
        assert answer.status == 200, answer.body
        return answer.json

    def post(self, text: str = "hello", **more: Any) -> str:
        uri: str = self.write(FEED + "post", {"text": text, **more})["uri"]
        return uri

    def reply(self, root: str, parent: str) -> str:
        def ref(uri: str) -> dict[str, str]:
            return {"uri": uri, "cid": "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"}

        return self.post("a reply", reply={"root": ref(root), "parent": ref(parent)})

    def like(self, uri: str, kind: str = "like") -> str:
        subject = {"uri": uri, "cid": "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"}
        made: str = self.write(FEED + kind, {"subject": subject})["uri"]
        return made

    def upload(self, content: bytes) -> Any:
        return self.box.post("com.atproto.repo.uploadBlob", content, self.token).json["blob"]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def post_view(name: str, did: str = OTHER, indexed: str = "2024-01-01T00:00:00.000Z", **record: Any) -> dict[str, Any]:
    """In the shape the AppView answers with."""
    return {
        "uri": f"at://{did}/app.bsky.feed.post/{name}",
        "cid": "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454",
        "author": {
            "did": did,
            "handle": "bob.example",
            "displayName": "Old name",
            "avatar": "https://cdn.example/a.jpg",
            "associated": {"chat": {"allowIncoming": "all"}},
            "viewer": {"muted": False, "blockedBy": False},
            "labels": [],
            "createdAt": "2023-04-24T00:00:00.000Z",
        },
        "record": {"$type": "app.bsky.feed.post", "text": name, "createdAt": indexed, "langs": ["en"], **record},
        "bookmarkCount": 0,
        "replyCount": 1,
        "repostCount": 2,
        "likeCount": 3,
        "quoteCount": 0,
        "indexedAt": indexed,
        "viewer": {"bookmarked": False, "threadMuted": False, "embeddingDisabled": False},
        "labels": [],
    }


def feed_of(*names: str) -> dict[str, Any]:
    """Posts of other people, the first the newest, all from 2024."""
    dates = [f"2024-01-{28 - index:02}T00:00:00.000Z" for index in range(len(names))]
    return {
        "feed": [{"post": post_view(name, indexed=date)} for name, date in zip(names, dates, strict=True)],
        "cursor": "c",
    }


def uris(answer: Any) -> list[str]:
    return [item["post"]["uri"] for item in answer.json["feed"]]


def _says(appview: FakeService, nsid: str, value: Any, rev: str, status: int = 200) -> None:
    appview.says(nsid, value, status, Atproto_Repo_Rev=rev, Atproto_Content_Labelers="did:web:labels.example")


# Posts


def test_a_fresh_post_is_at_the_top_of_the_timeline(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    uri = owner.post("just now")
    _says(appview, FEED + "getTimeline", feed_of("a", "b"), rev)

    answer = owner.get(FEED + "getTimeline", limit=2)

    assert uris(answer) == [uri, post_view("a")["uri"], post_view("b")["uri"]]
    shown = answer.json["feed"][0]["post"]
    assert shown["author"]["did"] == owner.did
    assert shown["author"]["handle"] == HANDLE
    assert shown["record"]["text"] == "just now"
    assert shown["record"]["$type"] == "app.bsky.feed.post"
    assert (shown["likeCount"], shown["replyCount"], shown["repostCount"], shown["quoteCount"]) == (0, 0, 0, 0)
    record = owner.box.get("com.atproto.repo.getRecord", repo=owner.did, collection=FEED + "post", rkey=uri[-13:]).json
    assert shown["cid"] == record["cid"]
    assert answer.json["cursor"] == "c"
    assert answer.json["feed"][1:] == feed_of("a", "b")["feed"]
    assert 0 <= int(answer.headers["atproto-upstream-lag"]) < 60_000
    assert answer.headers["atproto-repo-rev"] == rev
    assert answer.headers["atproto-content-labelers"] == "did:web:labels.example"
    assert "atproto-upstream-lag" in answer.headers["access-control-expose-headers"]


def test_two_fresh_posts_come_newest_first_and_packed_answers_are_read(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    first, second = owner.post("first"), owner.post("second")
    headers = {**JSON, "Content-Encoding": "gzip", "Atproto-Repo-Rev": rev}
    appview.answers[FEED + "getTimeline"] = (200, headers, gzip.compress(json.dumps(feed_of("a")).encode()))

    answer = owner.get(FEED + "getTimeline")

    assert uris(answer)[:2] == [second, first]
    assert "content-encoding" not in answer.headers


def test_what_the_appview_shows_already_is_not_shown_twice(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    uri = owner.post()
    known = {"feed": [{"post": {**post_view("x"), "uri": uri, "indexedAt": "2020-01-01T00:00:00.000Z"}}]}
    _says(appview, FEED + "getTimeline", known, rev)

    assert uris(owner.get(FEED + "getTimeline")) == [uri]


def test_an_appview_that_is_up_to_date_is_passed_on_byte_for_byte(owner: Owner, appview: FakeService) -> None:
    owner.post()
    odd = b'{ "feed" :[], "big": 12345678901234567890123 }'
    appview.answers[FEED + "getTimeline"] = (200, {**JSON, "Atproto-Repo-Rev": owner.rev}, odd)

    answer = owner.get(FEED + "getTimeline")

    assert answer.body == odd
    assert "atproto-upstream-lag" not in answer.headers


def test_later_pages_and_older_ones_stay_as_they_are(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    uri = owner.post()
    _says(appview, FEED + "getTimeline", feed_of("a"), rev)
    assert uris(owner.get(FEED + "getTimeline", cursor="c")) == [post_view("a")["uri"]]
    future = {"feed": [{"post": post_view("z", indexed="2999-01-01T00:00:00.000Z")}]}
    _says(appview, FEED + "getTimeline", future, rev)
    assert uri not in uris(owner.get(FEED + "getTimeline"))


def test_a_post_deleted_again_is_not_shown(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    uri = owner.post("gone")
    body = {"repo": owner.did, "collection": FEED + "post", "rkey": uri[-13:]}
    assert owner.box.post("com.atproto.repo.deleteRecord", body, owner.token).status == 200
    _says(appview, FEED + "getTimeline", feed_of("a"), rev)

    assert uris(owner.get(FEED + "getTimeline")) == [post_view("a")["uri"]]


def test_a_fresh_post_is_sorted_in_with_reposts(owner: Owner, appview: FakeService) -> None:
    """A feed is sorted by when something was reposted, not by when it was written."""
    rev = owner.rev
    uri = owner.post()
    by = post_view("x")["author"]
    reason = {"$type": "app.bsky.feed.defs#reasonRepost", "by": by, "indexedAt": "2999-01-01T00:00:00.000Z"}
    answer = feed_of("a", "b")
    answer["feed"][0]["reason"] = reason
    _says(appview, FEED + "getTimeline", answer, rev)

    assert uris(owner.get(FEED + "getTimeline")) == [post_view("a")["uri"], uri, post_view("b")["uri"]]


def test_the_own_feed_gets_fresh_posts_also_when_it_is_empty(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    uri = owner.post()
    _says(appview, FEED + "getAuthorFeed", {"feed": []}, rev)

    for actor in (owner.did, HANDLE):
        assert uris(owner.get(FEED + "getAuthorFeed", actor=actor)) == [uri]
    assert uris(owner.get(FEED + "getAuthorFeed", actor=OTHER)) == []


def test_the_filter_of_the_own_feed_holds_for_fresh_posts(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    plain = owner.post("plain")
    own_reply = owner.reply(plain, plain)
    reply = owner.reply(post_view("a")["uri"], post_view("a")["uri"])
    image = {"alt": "a dot", "image": owner.upload(PNG)}
    picture = owner.post("picture", embed={"$type": "app.bsky.embed.images", "images": [image]})
    _says(appview, FEED + "getAuthorFeed", {"feed": []}, rev)

    def shown(wanted: str) -> set[str]:
        return set(uris(owner.get(FEED + "getAuthorFeed", actor=owner.did, filter=wanted)))

    assert shown("posts_with_replies") == {plain, own_reply, reply, picture}
    assert shown("posts_no_replies") == {plain, picture}
    assert shown("posts_and_author_threads") == {plain, own_reply, picture}
    assert shown("posts_with_media") == {picture}
    assert shown("posts_with_video") == set()


# Embeds

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def _embed(owner: Owner, appview: FakeService, embed: dict[str, Any]) -> Any:
    rev = owner.rev
    owner.post("look", embed=embed)
    _says(appview, FEED + "getTimeline", {"feed": []}, rev)
    return owner.get(FEED + "getTimeline").json["feed"][0]["post"].get("embed")


def test_pictures_are_shown_from_this_server(owner: Owner, appview: FakeService) -> None:
    image = {"alt": "a dot", "image": owner.upload(PNG), "aspectRatio": {"width": 1, "height": 1}}

    view = _embed(owner, appview, {"$type": "app.bsky.embed.images", "images": [image]})

    assert view["$type"] == "app.bsky.embed.images#view"
    (shown,) = view["images"]
    assert (shown["alt"], shown["aspectRatio"]) == ("a dot", {"width": 1, "height": 1})
    for size in ("thumb", "fullsize"):
        assert shown[size].startswith(owner.box.url)
        assert owner.box.request("GET", shown[size].removeprefix(owner.box.url)).body == PNG


def test_a_link_card_is_shown(owner: Owner, appview: FakeService) -> None:
    card = {"uri": "https://example.com", "title": "t", "description": "d", "thumb": owner.upload(PNG + b"\0")}

    view = _embed(owner, appview, {"$type": "app.bsky.embed.external", "external": card})

    assert view["$type"] == "app.bsky.embed.external#view"
    assert "getBlob" in view["external"].pop("thumb")
    assert view["external"] == {"uri": "https://example.com", "title": "t", "description": "d"}


def test_a_quoted_post_is_asked_of_the_appview(owner: Owner, appview: FakeService) -> None:
    quoted = post_view("quoted")
    appview.says(FEED + "getPosts", {"posts": [quoted]})
    ref = {"uri": quoted["uri"], "cid": quoted["cid"]}

    view = _embed(owner, appview, {"$type": "app.bsky.embed.record", "record": ref})

    assert view["$type"] == "app.bsky.embed.record#view"
    assert view["record"]["$type"] == "app.bsky.embed.record#viewRecord"
    assert (view["record"]["uri"], view["record"]["value"]) == (quoted["uri"], quoted["record"])
    (asked,) = appview.calls(FEED + "getPosts")
    assert asked.claims["lxm"] == FEED + "getPosts"
    assert asked.claims["aud"] == "did:web:appview.example"


@pytest.mark.parametrize(
    "answer", [(200, JSON, b'{"posts":[]}'), (500, JSON, b""), (200, JSON, b"[]"), (200, JSON, b"{")]
)
def test_a_quoted_post_nobody_knows_is_not_found(owner: Owner, appview: FakeService, answer: Any) -> None:
    appview.answers[FEED + "getPosts"] = answer
    ref = {"uri": f"at://{OTHER}/app.bsky.feed.post/gone", "cid": post_view("a")["cid"]}

    view = _embed(owner, appview, {"$type": "app.bsky.embed.record", "record": ref})

    assert view["record"] == {"$type": "app.bsky.embed.record#viewNotFound", "uri": ref["uri"], "notFound": True}


def test_an_appview_that_is_slow_about_quotes_does_not_hold_the_answer_up(
    owner: Owner, appview: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_after_write, "MERGE_S", 0.2)
    late = threading.Event()

    def wait(_asked: Asked) -> Reply:
        late.wait(20)
        return 200, JSON, b'{"posts":[]}'

    appview.answers[FEED + "getPosts"] = wait
    ref = {"uri": f"at://{OTHER}/app.bsky.feed.post/slow", "cid": post_view("a")["cid"]}
    timeline = feed_of("a", "b")
    _says(appview, FEED + "getTimeline", timeline, owner.rev)
    owner.post(embed={"$type": "app.bsky.embed.record", "record": ref})
    try:
        answer = owner.get(FEED + "getTimeline")
        assert json.loads(answer.body) == timeline
    finally:
        late.set()


def test_a_quote_with_a_picture_is_both(owner: Owner, appview: FakeService) -> None:
    appview.says("app.bsky.graph.getList", {"list": {"uri": "at://x", "name": "n"}, "items": []})
    image = {"alt": "", "image": owner.upload(PNG + b"\1")}
    ref = {"uri": f"at://{OTHER}/app.bsky.graph.list/l", "cid": post_view("a")["cid"]}
    embed = {
        "$type": "app.bsky.embed.recordWithMedia",
        "record": {"$type": "app.bsky.embed.record", "record": ref},
        "media": {"$type": "app.bsky.embed.images", "images": [image]},
    }

    view = _embed(owner, appview, embed)

    assert view["$type"] == "app.bsky.embed.recordWithMedia#view"
    assert view["media"]["$type"] == "app.bsky.embed.images#view"
    assert view["record"]["record"]["$type"] == "app.bsky.graph.defs#listView"


# Likes and reposts


def test_a_fresh_like_marks_its_post_and_counts(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    like = owner.like(post_view("a")["uri"])
    repost = owner.like(post_view("b")["uri"], "repost")
    _says(appview, FEED + "getTimeline", feed_of("a", "b", "c"), rev)

    a, b, c = (item["post"] for item in owner.get(FEED + "getTimeline").json["feed"])

    assert (a["viewer"]["like"], a["likeCount"], a["repostCount"]) == (like, 4, 2)
    assert (b["viewer"]["repost"], b["likeCount"], b["repostCount"]) == (repost, 3, 3)
    assert c == feed_of("a", "b", "c")["feed"][2]["post"]


def test_a_like_the_appview_has_counted_is_not_counted_again(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    like = owner.like(post_view("a")["uri"])
    answer = feed_of("a")
    answer["feed"][0]["post"]["viewer"]["like"] = like
    _says(appview, FEED + "getTimeline", answer, rev)

    assert owner.get(FEED + "getTimeline").json == answer


def test_a_freshly_liked_post_is_among_the_own_likes(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    like = owner.like(post_view("liked")["uri"])
    own = owner.post("mine")
    owner.like(own)
    appview.says(FEED + "getPosts", {"posts": [post_view("liked")]})
    _says(appview, FEED + "getActorLikes", feed_of("a"), rev)

    answer = owner.get(FEED + "getActorLikes", actor=owner.did)

    assert uris(answer) == [own, post_view("liked")["uri"], post_view("a")["uri"]]
    assert answer.json["feed"][1]["post"]["viewer"]["like"] == like
    assert answer.json["feed"][0]["post"]["likeCount"] == 1
    assert uris(owner.get(FEED + "getActorLikes", actor=OTHER)) == [post_view("a")["uri"]]


# Profile


def test_a_changed_profile_shows_in_profiles_and_on_own_posts(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    profile = {"displayName": "New name", "description": "new text", "avatar": owner.upload(PNG + b"\2")}
    owner.write(ACTOR + "profile", profile, rkey="self")
    shown = {
        "did": owner.did,
        "handle": HANDLE,
        "displayName": "Old name",
        "banner": "https://cdn.example/banner.jpg",
        "followersCount": 7,
        "viewer": {"muted": False},
    }
    other = {**shown, "did": OTHER}
    _says(appview, ACTOR + "getProfile", shown, rev)
    _says(appview, ACTOR + "getProfiles", {"profiles": [other, shown]}, rev)
    mine = {"feed": [{"post": post_view("mine", owner.did)}, {"post": post_view("other")}]}
    _says(appview, FEED + "getAuthorFeed", mine, rev)

    answer = owner.get(ACTOR + "getProfile", actor=owner.did)

    assert (answer.json["displayName"], answer.json["description"]) == ("New name", "new text")
    assert "com.atproto.sync.getBlob" in answer.json["avatar"]
    assert "banner" not in answer.json
    assert (answer.json["followersCount"], answer.json["viewer"]) == (7, {"muted": False})
    assert owner.get(ACTOR + "getProfiles", actors=[OTHER, owner.did]).json == {"profiles": [other, answer.json]}
    own, others = (item["post"] for item in owner.get(FEED + "getAuthorFeed", actor=owner.did, cursor="x").json["feed"])
    assert own["author"]["displayName"] == "New name"
    assert own["author"]["labels"] == []
    assert others == post_view("other")


def test_other_peoples_profiles_stay_as_they_are(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    owner.write(ACTOR + "profile", {"displayName": "Again"}, rkey="self")
    body = json.dumps({"did": OTHER, "displayName": "Bob"}).encode()
    appview.answers[ACTOR + "getProfile"] = (200, {**JSON, "Atproto-Repo-Rev": rev}, body)

    assert owner.get(ACTOR + "getProfile", actor=OTHER).json == json.loads(body)


# Threads


def thread_of(view: dict[str, Any], *replies: Any, parent: Any = None) -> dict[str, Any]:
    node = {"$type": "app.bsky.feed.defs#threadViewPost", "post": view, "replies": list(replies), "threadContext": {}}
    return {**node, "parent": parent} if parent is not None else node


def test_fresh_replies_are_where_they_belong_in_a_thread(owner: Owner, appview: FakeService) -> None:
    root, deep = post_view("root"), post_view("deep")
    rev = owner.rev
    to_root = owner.reply(root["uri"], root["uri"])
    to_deep = owner.reply(root["uri"], deep["uri"])
    to_own = owner.reply(root["uri"], to_deep)
    owner.reply(root["uri"], post_view("elsewhere")["uri"])
    like = owner.like(deep["uri"])
    gone = {"$type": "app.bsky.feed.defs#notFoundPost", "uri": "at://x", "notFound": True}
    middle = thread_of(post_view("middle"), thread_of(deep), gone)
    _says(appview, FEED + "getPostThread", {"thread": thread_of(root, middle), "threadgate": {"a": 1}}, rev)

    answer = owner.get(FEED + "getPostThread", uri=root["uri"])

    assert answer.json["threadgate"] == {"a": 1}
    thread = answer.json["thread"]
    assert [reply["post"]["uri"] for reply in thread["replies"]] == [to_root, post_view("middle")["uri"]]
    shown_deep, shown_gone = thread["replies"][1]["replies"]
    assert shown_gone == gone
    assert shown_deep["post"]["viewer"]["like"] == like
    (own,) = shown_deep["replies"]
    assert (own["post"]["uri"], own["$type"]) == (to_deep, "app.bsky.feed.defs#threadViewPost")
    assert [reply["post"]["uri"] for reply in own["replies"]] == [to_own]
    assert json.dumps(thread).count("a reply") == 3


def test_replies_above_the_opened_post_are_not_shown(owner: Owner, appview: FakeService) -> None:
    """A thread shows the line of posts above, not what else was said there."""
    root, shown = post_view("root"), post_view("shown")
    rev = owner.rev
    owner.reply(root["uri"], root["uri"])
    answer = {"thread": thread_of(shown, parent=thread_of(root))}
    _says(appview, FEED + "getPostThread", answer, rev)

    assert owner.get(FEED + "getPostThread", uri=shown["uri"]).json == answer


@pytest.mark.parametrize("authority", ["did", "handle"])
def test_a_post_the_appview_does_not_know_opens_as_a_thread(owner: Owner, appview: FakeService, authority: str) -> None:
    parent = post_view("parent")
    rev = owner.rev
    first = owner.reply(parent["uri"], parent["uri"])
    second = owner.reply(parent["uri"], first)
    third = owner.reply(parent["uri"], second)

    def answer(asked: Any) -> Any:
        if "depth=0" in asked.path:
            return 200, JSON, json.dumps({"thread": thread_of(parent)}).encode()
        return 400, {**JSON, "Atproto-Repo-Rev": rev}, b'{"error":"NotFound","message":"Post not found"}'

    appview.answers[FEED + "getPostThread"] = answer
    uri = second if authority == "did" else second.replace(owner.did, HANDLE)

    shown = owner.get(FEED + "getPostThread", uri=uri)

    assert shown.status == 200
    thread = shown.json["thread"]
    assert thread["post"]["uri"] == second
    assert [reply["post"]["uri"] for reply in thread["replies"]] == [third]
    assert thread["parent"]["post"]["uri"] == first
    assert thread["parent"]["parent"]["post"] == parent
    assert "atproto-upstream-lag" in shown.headers


def test_a_post_nobody_knows_stays_not_found(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    owner.post()
    _says(appview, FEED + "getPostThread", {"error": "NotFound", "message": "Post not found"}, rev, 400)

    for uri in (f"at://{owner.did}/app.bsky.feed.post/nothing", f"at://{OTHER}/app.bsky.feed.post/x", "nonsense"):
        assert owner.get(FEED + "getPostThread", uri=uri).error == (400, "NotFound")


# Answers that are not understood


def _broken() -> dict[str, bytes]:
    def with_item(change: Any) -> bytes:
        answer: Any = deepcopy(feed_of("a", "b"))
        change(answer["feed"])
        return json.dumps(answer, indent=1).encode()

    return {
        "no JSON": b"<html>",
        "half": b'{"feed":[',
        "a list": b"[]",
        "no feed": b'{ "foo": 1 }',
        "feed of texts": b'{ "feed": ["x"] }',
        "feed object": b'{ "feed": {} }',
        "no post": with_item(lambda feed: feed[1].pop("post")),
        "no uri": with_item(lambda feed: feed[1]["post"].pop("uri")),
        "no author": with_item(lambda feed: feed[0]["post"].update(author="bob")),
        "no time": with_item(lambda feed: feed[1]["post"].pop("indexedAt")),
        "deep": b'{"feed":' + b"[" * 900 + b"]" * 900 + b"}",
        "empty": b"",
    }


@pytest.mark.parametrize("broken", _broken().values(), ids=_broken())
def test_an_answer_that_is_not_understood_passes_unchanged(owner: Owner, appview: FakeService, broken: bytes) -> None:
    rev = owner.rev
    owner.post()
    for nsid in ("getTimeline", "getAuthorFeed", "getActorLikes", "getPostThread"):
        appview.answers[FEED + nsid] = (200, {**JSON, "Atproto-Repo-Rev": rev}, broken)
        answer = owner.get(FEED + nsid, actor=owner.did, uri="at://x")
        assert (answer.status, answer.body) == (200, broken), nsid
        assert "atproto-upstream-lag" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Atproto-Repo-Rev": "yesterday"},
        {"Atproto-Repo-Rev": "3zzzzzzzzzzzz"},
        {"Content-Type": "text/html"},
        {"Content-Encoding": "br"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_an_answer_with_odd_headers_passes_unchanged(
    owner: Owner, appview: FakeService, headers: dict[str, str]
) -> None:
    rev = owner.rev
    owner.post()
    given = {**JSON, **({} if "Repo-Rev" in str(headers) or not headers else {"Atproto-Repo-Rev": rev}), **headers}
    body = json.dumps(feed_of("a"), indent=1).encode()
    appview.answers[FEED + "getTimeline"] = (200, given, body)

    answer = owner.get(FEED + "getTimeline")

    assert answer.body == body
    assert answer.headers.get("content-encoding") == headers.get("Content-Encoding")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_too_large_to_look_into_passes_unchanged(
    owner: Owner, appview: FakeService, monkeypatch: pytest.MonkeyPatch, *, chunked: bool
) -> None:
    monkeypatch.setattr(read_after_write, "MAX_MERGED", 400_000)
    rev = owner.rev
    owner.post()
    body = json.dumps({**feed_of("a"), "padding": "x" * 1_500_000}).encode()
    pieces = [body[start : start + 100_000] for start in range(0, len(body), 100_000)]
    appview.answers[FEED + "getTimeline"] = (200, {**JSON, "Atproto-Repo-Rev": rev}, pieces if chunked else body)

    for _ in range(3):
        assert owner.get(FEED + "getTimeline").body == body


def test_a_large_streamed_answer_is_completed_too(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    uri = owner.post()
    body = json.dumps({**feed_of("a"), "padding": "x" * 1_000_000}).encode()
    pieces = [body[start : start + 100_000] for start in range(0, len(body), 100_000)]
    appview.answers[FEED + "getTimeline"] = (200, {**JSON, "Atproto-Repo-Rev": rev}, pieces)

    assert uris(owner.get(FEED + "getTimeline"))[0] == uri


def test_an_error_of_the_appview_stays_one(owner: Owner, appview: FakeService) -> None:
    rev = owner.rev
    owner.post()
    _says(appview, FEED + "getTimeline", {"error": "Overloaded", "message": "m"}, rev, 503)

    assert owner.get(FEED + "getTimeline").error == (503, "Overloaded")


def test_fresh_posts_are_known_after_a_restart(tmp_path: Any) -> None:
    with fake_service() as appview:
        settings = {"appview_url": appview.url, "appview_did": "did:web:appview.example"}
        with live_box(tmp_path / "box", **settings) as box:
            owner = Owner(box, box.token())
            rev = owner.rev
            uri = owner.post("before")
        with live_box(tmp_path / "box", **settings) as box:
            _says(appview, FEED + "getTimeline", {"feed": []}, rev)
            assert uris(Owner(box, box.token()).get(FEED + "getTimeline")) == [uri]
