"""Everything HTTP that is not XRPC: what stands under /.well-known, and the plain pages.

Each module has `mount(app, services)`, which adds its routes to the microdot application that `app` builds. Nothing
here imports `xrpc`. CORS headers are put on by http/cors, on these answers too.
"""
