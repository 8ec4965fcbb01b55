"""What makes the server an appliance: its board, its name on the LAN, first set-up, its console.

Nothing here speaks XRPC. `board` and `mdns` know nothing of the account; `setup` and `control` call services.
"""
