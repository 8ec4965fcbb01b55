"""XRPC: /xrpc/<nsid>, from a request to a handler and back.

`router` holds the table of methods and everything a call goes through; one file per namespace registers its handlers,
which only translate between lexicon shapes and services. `methods` imports those files, `unsupported` lists what is not
served and why, `proxying` passes other services' methods on, and `subscribe_repos` is the stream.
"""
