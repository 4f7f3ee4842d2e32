"""The audit: what happened to tokens and keys, in a log that shows if anybody touched it.

Events go into a ring, a mapped file that outlives its process (`ferrohsm.audit.ring`); batches of the ring
go into a chain, one for each token (`ferrohsm.audit.chain`). `ferrohsm.audit.trail` is what the rest of the
core speaks to.
"""
