# What the loader takes: one capsule with the table of functions and the hooks for C_Finalize and fork.

cdef extern from *:
    """
    extern const char ferro_build_id[];
    """
    const char ferro_build_id[]

cdef ferro_host *HOST = NULL
cdef CK_FUNCTION_LIST_3_2 FUNCTIONS
cdef ferro_table TABLE


cdef void interrupt() noexcept nogil:
    """C_Finalize has begun: wake every call that waits."""
    ferro_slots_interrupt()
    ferro_arrivals_interrupt()


cdef void fork_child() noexcept nogil:
    """In the child of a fork: forget everything, touch nothing of Python's."""
    global FORKED
    ferro_sessions_fork_child()
    ferro_decisions_fork_child()
    ferro_recipes_fork_child()
    ferro_snapshots_fork_child()
    ferro_finds_fork_child()
    ferro_handles_fork_child()
    ferro_slots_reset(1)
    ferro_arrivals_fork_child()
    ferro_attach_fork_child()
    FORKED = True


cdef void attach_host(const ferro_host *host) noexcept nogil:
    global HOST
    HOST = <ferro_host *>host
    ferro_attach_host(HOST.python_usable)


ferro_sessions_prepare()
ferro_decisions_prepare()
ferro_handles_prepare()
ferro_recipes_prepare()
ferro_snapshots_prepare()
ferro_finds_prepare()
fill(&FUNCTIONS)
TABLE.version = FERRO_TABLE_VERSION
TABLE.build_id = ferro_build_id
TABLE.functions = &FUNCTIONS
TABLE.interrupt = interrupt
TABLE.fork_child = fork_child
TABLE.attach_host = attach_host
table = PyCapsule_New(&TABLE, "pkcs11_abi.module.table", NULL)
