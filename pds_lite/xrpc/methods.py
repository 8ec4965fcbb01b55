"""Every module that registers methods, imported for that: add a namespace's file here and the router knows it."""

from pds_lite.xrpc import (
    app_bsky_actor,
    com_atproto_admin,
    com_atproto_identity,
    com_atproto_moderation,
    com_atproto_repo,
    com_atproto_server,
    com_atproto_server_codes,
    com_atproto_sync,
    com_atproto_temp,
    subscribe_repos,
)

__all__ = [
    "app_bsky_actor",
    "com_atproto_admin",
    "com_atproto_identity",
    "com_atproto_moderation",
    "com_atproto_repo",
    "com_atproto_server",
    "com_atproto_server_codes",
    "com_atproto_sync",
    "com_atproto_temp",
    "subscribe_repos",
]
