"""A start loads what it needs: on a small board every library shows in seconds and megabytes."""

import subprocess
import sys

from tests.served_box import CHECKOUT


def test_a_server_is_built_without_websockets_and_without_the_command_line_of_its_library() -> None:
    code = (
        "import sys\n"
        "from pds_lite.http.asgi import HttpEdge\n"
        "from pds_lite.http.server import build_server\n"
        "edge = HttpEdge(None, None, None)\n"
        "import asyncio\n"
        "async def build(): build_server(edge).config.load()\n"
        "asyncio.run(build())\n"
        "loaded = {'uvicorn.main', 'click', 'wsproto', 'multiprocessing'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)
