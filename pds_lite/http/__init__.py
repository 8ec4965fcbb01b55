"""The HTTP edge: from bytes on a socket to microdot's Request and back.

Read server.py (what runs it all), protocol.py (one connection; its clocks are in deadlines.py, its measures in
limits.py), exchange.py (one request and its answer), asgi.py (the way to microdot), websocket.py (streams that go out).
body.py, compression.py, cors.py and client_address.py are what these are made of. Nothing in this package knows a
method, an account or the store.
"""
