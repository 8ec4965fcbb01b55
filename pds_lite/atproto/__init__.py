"""The protocol itself: values in, values out.

Nothing in this package does I/O, reads a clock, draws randomness or logs; what it needs of these is an argument. Each
module is one noun of the specifications. Start at `repo` (what a commit is made of), then `mst.tree`, `dag_cbor`, `car`
and `firehose`; `syntax`, `crypto` and `lexicon` stand on their own.
"""
