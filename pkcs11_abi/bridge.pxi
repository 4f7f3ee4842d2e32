# The interpreter. A call comes in on a thread of the host, which may be foreign to Python or may even hold the
# interpreter's lock already; the core's coroutine is stepped on that very thread when the slot's adapter is inline.

from time import monotonic

from ferrohsm import errors
from ferrohsm.errors import HsmError
from ferrohsm.runtime import called
from ferrohsm.translation import report, translate as translation

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
    cdef CK_RV rv
    ferro_attach()
    rv = inside(work, call)
    close_removed()
    return rv


cdef void close_removed() noexcept nogil:
    """Close the sessions of tokens that were found to be gone: their calls return CKR_DEVICE_REMOVED (Section 5.1.2)."""
    cdef Call call
    cdef ferro_slot *slot = ferro_slots_take_removed()
    while slot != NULL:
        clear(&call)
        call.session = ferro_session_detach_removed(slot)
        while call.session != NULL:
            close_detached(&call)
            call.session = ferro_session_detach_removed(slot)
        slot = ferro_slots_take_removed()


cdef CK_RV inside(work_t work, Call *call) noexcept with gil:
    try:
        return work(call)
    except BaseException as error:
        record_failure(call, error)
        return translate(error)
    finally:
        ferro_wipe_registers()  # before the lock is given away: that may be the first call of a function


cdef void record_failure(Call *call, object error) noexcept:
    """Record what an adapter failed with and what nobody expected, where the core has not seen it itself."""
    try:
        if CORE is None or FORKED or isinstance(error, KeyboardInterrupt):
            return
        handle = 0 if call.session == NULL else call.session.handle
        CORE.record_failure(None if call.slot == NULL else call.slot.id, handle, error)
    except BaseException:
        pass  # the trail has said in the log what is wrong with it


cdef CK_RV translate(object error) noexcept:
    """The only way from an exception to a return value (`ferrohsm.translation`)."""
    try:
        if isinstance(error, KeyboardInterrupt):
            PyErr_SetInterrupt()  # a Python host's Ctrl-C stays the host's: it is raised there once we are back
            return CKR_FUNCTION_CANCELED
        return <CK_RV><unsigned long long>translation(error)
    except BaseException:
        return CKR_GENERAL_ERROR


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
        return run(call.slot, call.session, coroutine, call.exclusive)
    except LOGIN_LOST:
        if ferro_slot_try_enter(call.slot):  # else somebody logs in or out, and sees to it
            try:
                follow_login(call)
            finally:
                ferro_slot_leave(call.slot)
        raise


cdef object length_of(Call *call, object method, tuple arguments):
    """Ask an operation for a length, on the thread where its adapter runs."""
    return method(*arguments) if call.slot.is_inline else drive(call, called(method, arguments))


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
    forget_slot(call.slot)


cdef object run(ferro_slot *slot, ferro_session *session, object coroutine, bint exclusive=False):
    if slot.is_inline:
        return step(coroutine)
    try:
        if core().stale:
            scan(True, False)
            if session != NULL and session.token != slot.tokens:
                raise errors.DeviceRemoved()
        loop = core().loop(slot.id)
    except BaseException:
        coroutine.close()
        raise
    return dispatch(loop, session, exclusive, coroutine)


cdef class Arrival:
    """Called when a dispatched call is over; it wakes the one who waits without Python's lock."""

    cdef ferro_arrival place

    def __call__(self):
        ferro_arrival_raise(&self.place)


cdef dict DISPATCHED = {}
"""The dispatched calls by their session's handle and whether they have it alone, for those who end them."""


cdef object dispatch(object loop, ferro_session *session, bint exclusive, object coroutine):
    """Hand a coroutine to an adapter's thread and wait for what it returns.

    The wait ends at the deadline, when the session is closed or the call cancelled, and with C_Finalize.
    """
    cdef Arrival arrival = Arrival.__new__(Arrival)
    ferro_arrival_begin(&arrival.place)
    try:
        dispatched = loop.submit(coroutine, None, arrival)
        if session == NULL:
            return outcome(arrival, dispatched)
        place = (session.handle, exclusive)
        running = DISPATCHED.setdefault(place, set())
        running.add(dispatched)
        try:
            if ferro_session_fate(session, exclusive) != CKR_OK:
                dispatched.cancel()  # it was ended before it could be found
            return outcome(arrival, dispatched)
        finally:
            running.discard(dispatched)
            if not running:
                DISPATCHED.pop(place, None)
    finally:
        ferro_arrival_end(&arrival.place)


cdef object outcome(Arrival arrival, object dispatched):
    """Wait for a dispatched call, and give it up when it takes too long."""
    cdef int state = 0
    cdef bint gone = False
    cdef unsigned rest
    cdef double until = monotonic() + dispatched.deadline
    left = dispatched.deadline
    while state == 0 and left > 0:
        rest = milliseconds(left)
        with nogil:
            # Outside of the gate, so that a fork need not wait for us.
            if HOST != NULL:
                HOST.pause()
            state = ferro_arrival_await(&arrival.place, rest)
            if HOST != NULL and HOST.resume():
                gone = True
        if gone:
            state = FERRO_INTERRUPTED
        if state == 0:  # it is time, or the thread was woken for nothing
            left = until - monotonic()
    if state & FERRO_ARRIVED:
        return dispatched.outcome()
    if state & FERRO_INTERRUPTED:
        dispatched.cancel()
        raise errors.CryptokiNotInitialized()
    dispatched.expire()
    return dispatched.outcome()


cdef unsigned milliseconds(object seconds) except 0:
    return max(1, min(int(seconds * 1000), 3600000))


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
                forget_slot(session.slot)
        made = core().open_session(session.slot.id, session.handle, (session.flags & CKF_RW_SESSION) != 0)
        if session.core == NULL:
            Py_INCREF(made)
            session.core = <void *>made
        elif made is not <object>session.core:
            end_session(session, made)  # another thread was faster
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
    if session.flags & CKF_ASYNC_SESSION:
        leave_jobs(session)
    for i in range(FERRO_OPERATIONS):
        drop_operation(&session.operations[i])
    if session.core != NULL:
        held = <object>session.core
        session.core = NULL
        Py_DECREF(held)
        if CORE is not None and not FORKED:
            end_session(session, held)
    return CKR_OK


cdef object end_session(ferro_session *session, object held):
    """End the core's side of a session; nobody waits for a dispatched adapter to hear of it."""
    if session.slot.is_inline:
        step(core().close_session(held))
    else:
        core().drop_session(held)


cdef bint needs_python(ferro_session *session) noexcept nogil:
    cdef int i
    if session.core != NULL:
        return True
    for i in range(FERRO_OPERATIONS):
        if session.operations[i].kind == FERRO_PYTHON:
            return True
    return False
