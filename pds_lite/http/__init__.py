"""The HTTP edge: from bytes on a socket to microdot's Request and back.

Read server.py (what runs it all), protocol.py (one connection; its clocks are in deadlines.py, its measures in
limits.py), exchange.py (one request and its answer), asgi.py (the way to microdot), websocket.py (streams that go out).
body.py, compression.py, cors.py and client_address.py are what these are made of. Nothing in this package knows a
method, an account or the store.
"""

import sys
from types import ModuleType


def _load_uvicorn_without_its_command_line() -> None:
    """The package would import click and process supervisors for a command that is never run here: a fifteenth of the
    start and 1.6 MB. A stand-in has the place of that one module while the package loads.
    """
    stand_in = ModuleType("uvicorn.main")
    vars(stand_in).update(dict.fromkeys(("Server", "main", "run")))
    sys.modules["uvicorn.main"] = stand_in
    try:
        import uvicorn  # noqa: F401
    finally:
        del sys.modules["uvicorn.main"]


if "uvicorn" not in sys.modules:
    _load_uvicorn_without_its_command_line()
