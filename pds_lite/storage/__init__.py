"""The box's memory: one LMDB environment, one writer thread, and blob files beside it.

`store` opens the environment and gives snapshots to read and transactions to write; `writer`, `room`, `place` and
`migrations` are its parts. `keys` knows every key layout. Each other module owns some tables, as plain functions on a
transaction: `repo_store` (head, records), `sparse_tree` (the upper MST between starts), `event_log`, `blob_store`,
`account_store`, `session_store`, `backlink_store`. `check` reads everything and names each broken invariant.

What one request changes is one transaction: a power cut leaves all of it or nothing. The services above decide what is
changed; nothing here knows HTTP, lexicons or keys of signatures.
"""
