# General-purpose functions (Section 5.4). C_GetFunctionList, C_GetInterfaceList and C_GetInterface are the loader's.

from ferrohsm import __version__, config
from ferrohsm.core import Core

cdef enum:
    INIT_STRING_LIMIT = 4096  # bytes of C_Initialize's pReserved


cdef CK_RV C_Initialize(CK_VOID_PTR pInitArgs) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data = <CK_BYTE *>pInitArgs
    ferro_slots_resume()
    ferro_arrivals_resume()
    cdef CK_RV rv = cross(initialize, &call)
    if HOST != NULL and not HOST.hosted:
        cross(collect_again, &call)
    return rv


cdef CK_RV collect_again(Call *call) except *:
    """In an interpreter of our own: what was imported stays for good and is not looked at by the collector again."""
    import gc
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    return CKR_OK


cdef CK_RV initialize(Call *call) except *:
    """Read the configuration, start the core, learn the slots."""
    global CORE, FORKED, BEHIND, LISTED, SAVED, JOBS
    if FORKED:
        if CORE is not None:
            Py_INCREF(CORE)  # the parent's core is abandoned: collecting it would close the parent's files
            CORE = None
            Py_INCREF(BEHIND)
            BEHIND = {}
            forget_recipes()
            Py_INCREF(SAVED)
            Py_INCREF(JOBS)
            SAVED, JOBS = {}, {}
        FORKED = False
    if CORE is not None:
        raise errors.CryptokiAlreadyInitialized()
    DISPATCHED.clear()
    JOBS.clear()
    cdef CK_C_INITIALIZE_ARGS given
    cdef const CK_C_INITIALIZE_ARGS *arguments = NULL
    if call.data != NULL:
        given = (<const CK_C_INITIALIZE_ARGS *>call.data)[0]
        arguments = &given
    started = Core(configuration(arguments))
    started.runtime.allowed = arguments == NULL or not arguments.flags & CKF_LIBRARY_CANT_CREATE_OS_THREADS
    started.config.threads = started.runtime.allowed
    started.audit.threads = started.runtime.allowed
    started.audit.make_carrier = carriers(started.audit.settings)
    try:
        step(started.start())
        CORE = started
        if started.runtime.refused:
            raise errors.NeedToCreateThreads()
        LISTED = not started.opening
        scan(False, False)
        started.set_going()
    except BaseException as error:
        CORE = None
        report(error)  # while the log is open
        leave_behind()
        step(started.stop())
        raise
    return CKR_OK


cdef object configuration(const CK_C_INITIALIZE_ARGS *arguments):
    """Load the configuration, with the init string in pReserved if the configuration allows one."""
    environment = {}
    cdef const char *found
    for name in config.ENVIRONMENT:  # the process's own, not what os.environ saw when the interpreter started
        found = getenv(name.encode())
        if found != NULL:
            environment[name] = found.decode("utf-8", "surrogateescape")
    try:
        loaded = config.load(environment)
        if arguments == NULL or arguments.pReserved == NULL:
            return loaded
        if not loaded.allow_init_string:  # then it is no string, and it is not looked at
            raise errors.ArgumentsBad()
        return config.load(environment, init_string(<const char *>arguments.pReserved))
    except HsmError as error:
        complain(error)
        raise


cdef str init_string(const char *text):
    cdef const void *end = memchr(text, 0, INIT_STRING_LIMIT)
    if end == NULL:
        raise errors.ArgumentsBad()
    try:
        return text[: <const char *>end - text].decode("utf-8")
    except UnicodeDecodeError:
        raise errors.ArgumentsBad() from None


cdef object complain(object error):
    """Say on stderr what is wrong with the configuration: a log it would have named is not there yet."""
    import os
    try:
        os.write(2, f"ferrohsm: {error}\n".encode())
    except OSError:
        pass


cdef CK_RV C_Finalize(CK_VOID_PTR pReserved) noexcept nogil:
    cdef Call call
    cdef CK_RV rv
    cdef int last = 0
    clear(&call)
    if pReserved != NULL:
        return CKR_ARGUMENTS_BAD
    ferro_arrivals_resume()
    ferro_slots_resume()  # nobody waits any more, and closing what is dispatched may take a wait of our own
    cross(drain, &call)
    call.session = ferro_session_detach_any(NULL, &last)
    while call.session != NULL:
        call.slot = call.session.slot
        if ferro_session_leave(call.session, 0):
            discard(&call)
        call.session = ferro_session_detach_any(NULL, &last)
    ferro_decisions_forget_all()
    ferro_snapshots_forget_slot(NULL)
    ferro_finds_forget_slot(NULL)
    ferro_handles_kill_all()  # drafts are the kernel's memory, which ends with the core
    ferro_recipes_forget_slot(NULL)
    rv = cross(finalize, &call)
    ferro_handles_kill_all()
    ferro_slots_reset(0)
    ferro_wipe_stack()
    return rv


cdef CK_RV finalize(Call *call) except *:
    """Stop the core: log out everywhere, close the stores, wipe."""
    global CORE
    stopping, CORE = core(), None
    leave_behind()
    forget_recipes()
    step(stopping.stop())
    return CKR_OK


cdef CK_RV C_GetInfo(CK_INFO_PTR pInfo) noexcept nogil:
    if pInfo == NULL:
        return CKR_ARGUMENTS_BAD
    pInfo[0] = INFO
    return CKR_OK


cdef CK_INFO INFO
cdef CK_VERSION VERSION


cdef void fill_info():
    version = [int(part) for part in __version__.split(".")[:2]]
    VERSION.major, VERSION.minor = version[0], version[1]
    INFO.cryptokiVersion.major, INFO.cryptokiVersion.minor = 3, 2
    INFO.flags = 0
    INFO.libraryVersion = VERSION
    pad(INFO.manufacturerID, sizeof(INFO.manufacturerID), "FerroHSM")
    pad(INFO.libraryDescription, sizeof(INFO.libraryDescription), "FerroHSM software HSM")


fill_info()
