"""The OAuth authorization server of the box: the atproto profile (specs/oauth), for apps the owner lets in.

`provider` joins the parts: clients (who asks), par (what is asked), authorize (what the owner says), token (what is
handed out), grants (what is good now), revoke, permission_sets, nonces. Nothing here is imported before the first
OAuth request.
"""
