"""What an adapter is built from when a device keeps the keys and the rest may be ours.

`operations`: operations that the device computes. `signer`: a signer that leaves to the software engine
what needs no private key. `slots`: tokens in a directory, with PINs and objects, whose keys the device
keeps. `workers`: threads for a device whose interface blocks. ``docs/tutorial-adapter.md`` shows them at
work.
"""
