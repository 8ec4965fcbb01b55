"""The Merkle search tree that a commit signs: nodes, the tree, what differs between two, and proofs over parts."""
