"""What a PDS does, without HTTP and without LMDB calls of its own.

`bundle.Services` names every part. Start with `repo_writer` (the only way a record changes) and `sequencer` (what
others hear of it); `repo_reader`, `repo_export` and `repo_import` move repositories, `blobs` files. `account`,
`sign_up`, `sessions` and `access` are about the one account and who may act for it; `identity`, `service_auth` and
`proxy` about the rest of the network. Parts get what they need as constructor arguments, and `app` joins them.
"""
