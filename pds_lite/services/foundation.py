"""Foundation: what the services of the account all stand on, so that each takes one thing and not six.

Joined by app.py before the account exists; it knows no behaviour. Whoever needs only two of these takes those two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.services.identity import Identity
    from pds_lite.services.key_store import Keys
    from pds_lite.services.repo_writer import RepoWriter
    from pds_lite.storage.store import Store


@dataclass(frozen=True, slots=True)
class Foundation:
    """Settings, time, disk, the box's keys, the network's identities, and the repository."""

    config: Config
    clock: Clock
    store: Store
    keys: Keys
    identity: Identity
    repo: RepoWriter
