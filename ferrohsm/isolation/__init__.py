"""An adapter in a process of its own: ``isolation = "process"`` in its section of the configuration.

Native code that crashes, or that never gives back Python's lock, takes the process with it. Apart, it takes
its own: the host has a proxy (`ferrohsm.isolation.adapter`) for the adapter, its slots, stores, signers and
operations, and a child process (`ferrohsm.isolation.child`) has the real ones. Between them goes what
`ferrohsm.adapters` says that an adapter is asked and answers, written out value by value
(`ferrohsm.isolation.values`), over one socket that nobody else has.
"""
