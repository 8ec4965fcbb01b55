"""pds-lite: an AT Protocol personal data server for one person on a small board.

Layers, highest first; a package imports only those below it (checked by import-linter):
cli, app, xrpc and web, box, services, storage and net, config and clock, atproto, then ujson and errors.
README "Reading the source" walks one createRecord through them.
"""

__version__ = "0.1.0"
