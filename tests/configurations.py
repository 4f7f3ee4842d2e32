"""What the configurations of many tests have in common."""

QUICK = """\
[pin]
delay = 0

[kdf]
memory_kib = 7168
passes = 1
"""
"""Wrong PINs cost no time, and the key derivation little."""
