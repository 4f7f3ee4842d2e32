"""Moving the objects of another module's token into one of ours (``ferrohsm migrate``).

`source` reads the other token through PyKCS11, `target` writes ours through the core, `transport` carries
keys that must not be seen under temporary keys, `proof` says whether two objects are the same key, and
`moving` decides object by object and keeps the record.
"""
