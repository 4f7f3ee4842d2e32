"""Tokens on disk: one SQLite file a token, sealed objects, PINs, and what keeps processes apart.

`directory` keeps the tokens of one data directory, `token` is one token (`adapters.HardwareKeyStore`).
"""
