"""The outside world: every connection this server opens, and nothing that decides what to say over it.

Read ssrf.py (which addresses a stranger may make us connect to), http_client.py (requests, pool, limits) and
http_connection.py (one connection). relay.py, plc_directory.py, dns_txt.py and well_known.py are what is asked of whom.
"""
