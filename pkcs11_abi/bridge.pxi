# The interpreter. A call comes in on a thread of the host, which may be foreign to Python or may even hold the
# interpreter's lock already; the core's coroutine is stepped on that very thread when the slot's adapter is inline.

from ferrohsm import errors, log
from ferrohsm.errors import HsmError, return_value

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object iterator, object argument, PyObject **result) except PYGEN_ERROR

cdef object CORE = None
"""The core between C_Initialize and C_Finalize."""

cdef bint FORKED = False
"""Set in the child of a fork: CORE is the parent's and is never closed here."""

ctypedef CK_RV (*work_t)(Call *) except *


cdef CK_RV cross(work_t work, Call *call) noexcept nogil:
    """The only door to Python: run `work` with the interpreter's lock and turn what it raises into a return value."""
    ferro_attach()
    return inside(work, call)


cdef CK_RV inside(work_t work, Call *call) noexcept with gil:
    try:
        return work(call)
    except BaseException as error:
        return translate(error)


cdef CK_RV translate(object error) noexcept:
    """The only way from an exception to a return value; one that nobody expected is logged."""
    try:
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()  # a Python host's Ctrl-C stays the host's: it is raised there once we are back
            return CKR_FUNCTION_CANCELED
        report(error)
        return <CK_RV><unsigned long long>return_value(error)
    except BaseException:
        return CKR_GENERAL_ERROR


cdef object report(object error):
    """Log an error that nobody expected: its kind and its places, no values."""
    if not isinstance(error, HsmError):
        log.failure("an error that nobody expected", error)


cdef object step(object coroutine):
    """Return what an inline coroutine returns; it never has to wait for anything."""
    cdef PyObject *result = NULL
    cdef PySendResult state = PyIter_Send(coroutine, None, &result)
    value = <object>result
    Py_DECREF(value)
    if state == PYGEN_NEXT:
        coroutine.close()
        raise RuntimeError("an inline adapter has awaited something that is not inline")
    return value


cdef tuple LOGIN_LOST = (
    errors.UserNotLoggedIn,
    errors.ObjectHandleInvalid,
    errors.KeyHandleInvalid,
    errors.WrappingKeyHandleInvalid,
    errors.UnwrappingKeyHandleInvalid,
)
"""What is raised where another process has ended the login."""


cdef object drive(Call *call, object coroutine):
    """Run a coroutine of the core for a call, on this thread or on the adapter's."""
    try:
        return step(coroutine) if call.slot.is_inline else dispatch(call.session, call.exclusive, coroutine)
    except LOGIN_LOST:
        if ferro_slot_try_enter(call.slot):  # else somebody logs in or out, and sees to it
            try:
                follow_login(call)
            finally:
                ferro_slot_leave(call.slot)
        raise


cdef object follow_login(Call *call):
    """End a login that another process has ended by making the token anew; the caller has the slot's login alone."""
    cdef ferro_slot_copy copy
    ferro_slot_read(call.slot, &copy)
    if copy.login == FERRO_NOBODY:
        return
    try:
        if run(call.slot, call.session, core().followed_login(call.slot.id)) is not None:
            return
    except Exception as error:  # the call's own answer is what counts
        report(error)
        return
    ferro_slot_logged_out(call.slot)
    ferro_sessions_forget_slot(call.slot)


cdef object run(ferro_slot *slot, ferro_session *session, object coroutine):
    return step(coroutine) if slot.is_inline else dispatch(session, False, coroutine)


cdef class Arrival:
    """Told by the runtime's thread that a dispatched call is done; it wakes the one who waits without Python's lock."""

    cdef int flag

    def __call__(self, future):
        ferro_slots_raise(&self.flag)


cdef dict DISPATCHED = {}
"""The dispatched calls by their session's handle and whether they have it alone, for those who end them."""


cdef object dispatch(ferro_session *session, bint exclusive, object coroutine):
    """Hand a coroutine to the runtime's thread and wait for what it returns.

    The wait ends at the runtime's deadline, when the session is closed or the call cancelled, and with C_Finalize.
    """
    cdef Arrival arrival = Arrival()
    cdef int interrupted
    dispatched = core().runtime.submit(coroutine)
    place = (0 if session == NULL else session.handle, exclusive)
    running = DISPATCHED.setdefault(place, set())
    running.add(dispatched)
    try:
        if session != NULL and ferro_session_fate(session, exclusive) != CKR_OK:
            dispatched.cancel()  # it was ended before it could be found
        dispatched.when_done(arrival)
        seconds = 0
        while not arrival.flag and seconds < dispatched.deadline:
            with nogil:
                interrupted = ferro_slots_await(&arrival.flag, 1000)
            if interrupted:
                dispatched.cancel()
                raise errors.CryptokiNotInitialized()
            seconds += 1
        if not arrival.flag:
            dispatched.cancel()
            raise errors.DeviceError()
        return dispatched.result()
    finally:
        running.discard(dispatched)
        if not running:
            DISPATCHED.pop(place, None)


cdef CK_RV cancel_dispatched(Call *call) except *:
    """Give up the dispatched call that has the session alone, and with `number` the others too."""
    running = list(DISPATCHED.get((call.session.handle, True), ()))
    if call.number:
        running += DISPATCHED.get((call.session.handle, False), ())
    for dispatched in running:
        dispatched.cancel()
    return CKR_OK


cdef object core():
    if CORE is None or FORKED:
        raise errors.CryptokiNotInitialized()
    return CORE


cdef object core_session(ferro_session *session):
    """The core's session, made at the first call that needs it."""
    if session.core == NULL:
        if ferro_slot_take_pending_logout(session.slot):
            try:
                run(session.slot, session, core().logout(session.slot.id))
            finally:
                ferro_sessions_forget_slot(session.slot)
        made = core().open_session(session.slot.id, session.handle, (session.flags & CKF_RW_SESSION) != 0)
        if session.core == NULL:
            Py_INCREF(made)
            session.core = <void *>made
        else:
            run(session.slot, session, core().close_session(made))  # another thread was faster
    return <object>session.core


cdef void drop_operation(ferro_operation *operation) noexcept:
    """End an operation: the engine's part is closed, what is held here is wiped."""
    if operation.kind == FERRO_PYTHON:
        held = <object>operation.object
        operation.object = NULL
        operation.kind = FERRO_IDLE
        Py_DECREF(held)
        try:
            held.close()
        except BaseException as error:
            translate(error)
    ferro_operation_end(operation)


cdef CK_RV tear_down(Call *call) except *:
    """Give back what a closed session has of Python: its operations, its objects."""
    cdef ferro_session *session = call.session
    cdef int i
    for i in range(FERRO_OPERATIONS):
        drop_operation(&session.operations[i])
    if session.core != NULL:
        held = <object>session.core
        session.core = NULL
        Py_DECREF(held)
        if CORE is not None and not FORKED:
            run(session.slot, session, CORE.close_session(held))
    return CKR_OK


cdef bint needs_python(ferro_session *session) noexcept nogil:
    cdef int i
    if session.core != NULL:
        return True
    for i in range(FERRO_OPERATIONS):
        if session.operations[i].kind == FERRO_PYTHON:
            return True
    return False
