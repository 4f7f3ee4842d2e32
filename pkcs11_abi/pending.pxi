# Calls of asynchronous sessions that go on after they have returned CKR_PENDING (Section 5.21). A job owns copies of its
# inputs and keeps its result; the caller's buffer is written only when the caller comes for it.

import time

cdef struct Places:
    # Where a message's parameter says that the vector and the tag go, or come from.
    CK_BYTE *vector
    CK_ULONG vector_length
    CK_BYTE *tag
    CK_ULONG tag_length

cdef struct MaterialPlaces:
    # Where the parameter of a derivation says that handles and vectors go; the vectors NULL where none are made.
    CK_SSL3_KEY_MAT_OUT *handles
    CK_BYTE *client_iv
    CK_BYTE *server_iv

cdef enum:
    FERRO_PENDING = 4  # the phase of an operation whose call is pending; beside those of `state/sessions.h`
    SAVED_LIMIT = 1024  # jobs whose identity was asked for
    DRAIN_SECONDS = 10  # how long C_Finalize waits for those that are under way

cdef enum:  # what a job gives
    GIVES_NOTHING
    GIVES_BYTES
    GIVES_MESSAGE  # a vector, a text and a tag
    GIVES_OPERATION  # for the place that waits for it
    GIVES_OBJECT
    GIVES_PAIR
    GIVES_BOTH  # bytes and an object
    GIVES_MATERIAL  # the keys and vectors of a connection

cdef enum:  # what becomes of the operation that a pending call is about, when that is completed
    ENDS
    GOES_ON  # with its next part, unless the call has failed
    BEGINS  # it is what the call has come to
    LASTS  # whatever the call has come to: a process of messages

cdef object background():
    """Return the core's part, which few processes need."""
    from ferrohsm import background
    return background


cdef dict JOBS = {}
"""The pending calls by their session's handle and their function's name."""

cdef dict SAVED = {}
"""The jobs whose identity was asked for, by that; they outlive their session."""

cdef dict ONCE = {
    FERRO_ENCRYPT: "C_Encrypt",
    FERRO_DECRYPT: "C_Decrypt",
    FERRO_DIGEST: "C_Digest",
    FERRO_SIGN: "C_Sign",
    FERRO_SIGN_RECOVER: "C_SignRecover",
    FERRO_VERIFY: "C_Verify",
    FERRO_VERIFY_RECOVER: "C_VerifyRecover",
}

cdef dict FINISH = {
    FERRO_ENCRYPT: "C_EncryptFinal",
    FERRO_DECRYPT: "C_DecryptFinal",
    FERRO_DIGEST: "C_DigestFinal",
    FERRO_SIGN: "C_SignFinal",
    FERRO_VERIFY: "C_VerifyFinal",
}

cdef dict INIT = {
    **{place: name + "Init" for place, name in ONCE.items()},
    FERRO_MESSAGE_ENCRYPT: "C_MessageEncryptInit",
    FERRO_MESSAGE_DECRYPT: "C_MessageDecryptInit",
    FERRO_MESSAGE_SIGN: "C_MessageSignInit",
    FERRO_MESSAGE_VERIFY: "C_MessageVerifyInit",
}

cdef dict UPDATE = {
    FERRO_ENCRYPT: "C_EncryptUpdate",
    FERRO_DECRYPT: "C_DecryptUpdate",
    FERRO_DIGEST: "C_DigestUpdate",
    FERRO_SIGN: "C_SignUpdate",
    FERRO_VERIFY: "C_VerifyUpdate",
}

cdef dict GIVEN = {
    "C_VerifyInit": "C_VerifySignatureInit",
    "C_Verify": "C_VerifySignature",
    "C_VerifyUpdate": "C_VerifySignatureUpdate",
    "C_VerifyFinal": "C_VerifySignatureFinal",
}
"""The functions of the family whose signature is given at the beginning."""

cdef dict MESSAGE = {
    FERRO_MESSAGE_ENCRYPT: "C_EncryptMessage",
    FERRO_MESSAGE_DECRYPT: "C_DecryptMessage",
    FERRO_MESSAGE_SIGN: "C_SignMessage",
    FERRO_MESSAGE_VERIFY: "C_VerifyMessage",
}

cdef dict MESSAGE_BEGIN = {place: name + "Begin" for place, name in MESSAGE.items()}
cdef dict MESSAGE_NEXT = {place: name + "Next" for place, name in MESSAGE.items()}

cdef dict FLAG_OF = {
    "C_CreateObject": 0,
    "C_CopyObject": 0,
    "C_GenerateKey": CKF_GENERATE,
    "C_GenerateKeyPair": CKF_GENERATE_KEY_PAIR,
    "C_WrapKey": CKF_WRAP,
    "C_UnwrapKey": CKF_UNWRAP,
    "C_WrapKeyAuthenticated": CKF_WRAP,
    "C_UnwrapKeyAuthenticated": CKF_UNWRAP,
    "C_DeriveKey": CKF_DERIVE,
    "C_EncapsulateKey": CKF_ENCAPSULATE,
    "C_DecapsulateKey": CKF_DECAPSULATE,
    "C_DigestKey": CKF_DIGEST,
    **{name: CKF_VERIFY for name in GIVEN.values()},
    **{
        name: ferro_operation_flag(place)
        for names in (INIT, ONCE, UPDATE, FINISH, MESSAGE, MESSAGE_BEGIN, MESSAGE_NEXT)
        for place, name in names.items()
    },
}
"""The functions that may be pending, each with the flag by which C_SessionCancel ends it."""

cdef frozenset CONFIDENTIAL = frozenset(("C_Decrypt", "C_DecryptFinal", "C_VerifyRecover"))
"""Their result is not kept longer than their session."""


cdef class Inputs:
    """What a job works on: views and values that are given back, wiped, when it is over."""

    cdef object view, other
    cdef list values
    cdef object coroutine, fate
    cdef CK_SLOT_ID slot
    cdef bint makes_objects

    def finished(self):
        """Give up what was cancelled before it began."""
        if not self.fate.begun:
            self.coroutine.close()
            self()

    def __call__(self):
        cdef ferro_slot *slot = ferro_slot_find(self.slot, NULL) if self.makes_objects else NULL
        if slot != NULL:
            # What the job has made is there before its caller has been told; what searches found before is old.
            ferro_slot_born(slot)
        for value in self.values:
            if isinstance(value, bytearray):
                wipe(value)
        self.values = []
        for view in (self.view, self.other):
            if view is not None:
                release_view(view)
        self.view = self.other = None


cdef class Job:
    """A call that is pending."""

    cdef CK_SLOT_ID slot
    cdef CK_SESSION_HANDLE session
    cdef CK_STATE state
    cdef str function
    cdef object running
    cdef object fate
    cdef object core_session
    cdef int gives
    cdef CK_BYTE *out
    cdef CK_ULONG room
    cdef CK_ULONG length  # bytes that may be given
    cdef int place  # of the operation, -1 for none
    cdef bint persistent  # what it makes are token objects
    cdef int keeps  # what becomes of the operation
    cdef int phase  # of the operation, when it goes on
    cdef bint elsewhere  # it writes where the mechanism's parameter says, too
    cdef Places places
    cdef CK_VERSION *version
    cdef object version_made
    cdef MaterialPlaces material
    cdef double end
    cdef CK_ULONG id  # 0: nobody has asked
    cdef bint over
    cdef object value  # when it was settled
    cdef object error

    cdef object settle(self):
        """Take the result over from whoever ran it, who may go away then."""
        if self.running is None:
            return
        try:
            self.value = self.running.outcome()
        except BaseException as error:
            self.error = error.with_traceback(None)
        self.running = None

    cdef bint needs_result(self):
        """Whether lengths or handles come with the result."""
        if self.gives == GIVES_MESSAGE:
            return self.out != NULL
        return self.gives not in (GIVES_NOTHING, GIVES_OPERATION, GIVES_MATERIAL)

    cdef bint ready(self):
        """Whether there is a result, of one kind or the other."""
        if self.running is None or self.running.done():
            return True
        if time.monotonic() > self.end:
            self.fate.cancelled = True
            self.running.expire()
            return True
        return False

    cdef object give_up(self, ferro_slot *slot):
        """Cancel it: what it has made, or still makes, is destroyed."""
        if self.over:
            return
        self.over = True
        self.fate.cancelled = True
        forget_job(self)
        running, self.running = self.running, None
        if running is None:
            drop_result(self.value)
            return
        running.cancel()
        if not running.done():
            return
        try:
            made = running.outcome()
        except BaseException:
            return
        drop_result(made)
        if self.gives < GIVES_OBJECT:
            return
        try:
            run(slot, NULL, background().destroy(core(), self.core_session, made))
        finally:
            forget_objects(slot, background().objects_of(made))


cdef class Awaited:
    """What stands in the place of an operation whose call is pending; who drops it cancels the call."""

    cdef Job job
    cdef ferro_slot *slot
    cdef object bound  # the operation, where it goes on after the call
    needs_login = False
    multi_part = False

    def valid(self):
        return True

    def close(self):
        bound, self.bound = self.bound, None
        try:
            if self.job is not None and self.job.id == 0:
                self.job.give_up(self.slot)
        finally:
            if bound is not None:
                bound.close()


cdef bint is_pending(ferro_session *session, ferro_operation *operation):
    """Whether an operation's call is pending. One whose job was given up (by a logout), or joined elsewhere, ends here."""
    cdef Awaited awaited
    if operation.kind != FERRO_PYTHON or operation.phase != FERRO_PENDING:
        return False
    awaited = <Awaited>operation.object
    if not awaited.job.over and awaited.job.session == session.handle:
        return True
    drop_operation(operation)
    return False


cdef object drop_result(object value):
    """Wipe what nobody comes for: it may be a plaintext; an operation ends."""
    if hasattr(value, "close"):
        value.close()
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, bytearray):
            wipe(part)


cdef object forget_job(Job job):
    if JOBS.get((job.session, job.function)) is job:
        del JOBS[(job.session, job.function)]
    if job.id != 0 and SAVED.get(job.id) is job:
        del SAVED[job.id]


cdef bint defers(Call *call, object mechanism_type) except -1:
    """Whether this call is to return at once: its session is asynchronous, and it may take long."""
    if not call.session.flags & CKF_ASYNC_SESSION:
        return False
    return not call.slot.is_inline or mechanism_type in background().SLOW


cdef Inputs inputs(object view, list values):
    cdef Inputs made = Inputs.__new__(Inputs)
    made.view, made.values = view, values
    return made


cdef CK_RV put_off(Call *call, str function, int gives, object coroutine, Inputs given, bint persistent) except *:
    """Start a job for a call."""
    job_for(call, function, gives, coroutine, given).persistent = persistent
    return CKR_PENDING


cdef CK_RV put_off_with_room(
    Call *call, str function, int gives, object coroutine, Inputs given, CK_ULONG length, Places *places
) except *:
    """Start a job for a call that puts out `length` bytes, and writes to `places` if there are any."""
    cdef Job job = job_for(call, function, gives, coroutine, given)
    job.length = length
    if places != NULL:
        job.elsewhere, job.places = True, places[0]
    return CKR_PENDING


cdef Job job_for(Call *call, str function, int gives, object coroutine, Inputs given):
    cdef Job job
    key = (call.session.handle, function)
    if key in JOBS:
        coroutine.close()
        given()
        raise errors.OperationActive()
    job = Job.__new__(Job)
    job.slot, job.session, job.state = call.slot.id, call.session.handle, ferro_session_state(call.session)
    job.function, job.gives, job.place = function, gives, -1
    job.fate, job.core_session = background().Fate(), core_session(call.session)
    job.out, job.room = call.out, call.room
    work = background().wanted(
        core(), job.core_session, coroutine, job.fate, makes_objects=gives >= GIVES_OBJECT, afterwards=given
    )
    given.coroutine, given.fate = coroutine, job.fate
    given.slot, given.makes_objects = call.slot.id, gives >= GIVES_OBJECT
    try:
        if call.slot.is_inline:
            job.running = core().workers.submit(work, given.finished)
        else:
            job.running = core().loop(call.slot.id).submit(work, None, given.finished)
    except BaseException:
        work.close()
        coroutine.close()
        given()
        raise
    job.end = time.monotonic() + job.running.deadline
    JOBS[key] = job
    if ferro_session_fate(call.session, call.exclusive) != CKR_OK:
        job.give_up(call.slot)
    return job


cdef CK_RV put_off_operation(
    Call *call, ferro_operation *operation, dict names, int gives, object coroutine, Inputs given, CK_ULONG length
) except *:
    """Start a job for an operation's last call. The job has the operation from now on."""
    name = names[call.operation]
    hold_place(call, operation, job_for(call, name, gives, coroutine, given), ENDS).length = length
    return CKR_PENDING


cdef Job hold_place(Call *call, ferro_operation *operation, Job job, int keeps):
    """Put a job in the place of the operation that it is about, which comes back if it goes on."""
    cdef Awaited awaited
    bound = <object>operation.object
    awaited = Awaited.__new__(Awaited)
    awaited.job, awaited.slot = job, call.slot
    awaited.bound = None if keeps == ENDS else bound
    job.place, job.keeps, job.phase = call.operation, keeps, operation.phase if keeps == LASTS else FERRO_PARTS
    Py_INCREF(awaited)
    operation.object = <void *>awaited
    Py_DECREF(bound)
    operation.phase = FERRO_PENDING
    return job


cdef CK_RV put_off_begin(Call *call, ferro_operation *operation, object coroutine) except *:
    """Begin an operation in the background; its place is taken from now on."""
    cdef Awaited awaited = Awaited.__new__(Awaited)
    name = INIT[call.operation]
    if call.extra != NULL:
        name = GIVEN[name]
        operation.signature = ferro_copy(call.extra, call.extra_length)
        operation.signature_length = call.extra_length
        if operation.signature == NULL:
            coroutine.close()
            raise errors.HostMemory()
    try:
        awaited.job = job_for(call, name, GIVES_OPERATION, coroutine, inputs(None, []))
    except BaseException:
        ferro_operation_clear(operation)
        raise
    awaited.slot = call.slot
    awaited.job.place, awaited.job.keeps, awaited.job.phase = call.operation, BEGINS, FERRO_FRESH
    start(operation, awaited)
    operation.phase = FERRO_PENDING
    return CKR_PENDING


cdef object leave_place(ferro_session *session, Job job):
    """A job is completed: its operation ends, or is there again."""
    cdef ferro_operation *operation
    cdef Awaited awaited
    if job.place < 0:
        return
    operation = &session.operations[job.place]
    if operation.kind != FERRO_PYTHON or operation.phase != FERRO_PENDING:
        return
    awaited = <Awaited>operation.object
    if awaited.job is not job:
        return
    if job.keeps == ENDS or (job.keeps != LASTS and job.error is not None):
        drop_operation(operation)
        return
    if job.keeps == BEGINS:
        bound, job.value = job.value, None
    else:
        bound, awaited.bound = awaited.bound, None
    Py_INCREF(bound)
    operation.object = <void *>bound
    operation.phase = job.phase
    Py_DECREF(awaited)


cdef bint whole_room(Call *call, CK_ULONG length) noexcept nogil:
    """Whether a result of which only a bound is known fits in any case; a call that is pending cannot say later."""
    if call.room >= length:
        return True
    call.out_length[0] = length
    return False


# The ends of jobs.


cdef object jobs_of(CK_SESSION_HANDLE session):
    return [job for (handle, _), job in list(JOBS.items()) if handle == session]


cdef object cancel_jobs(ferro_session *session, CK_FLAGS flags):
    """Cancel the session's pending calls that `flags` name."""
    cdef Job job
    for job in jobs_of(session.handle):
        if FLAG_OF[job.function] & flags:
            job.give_up(session.slot)


cdef object leave_jobs(ferro_session *session):
    """A session ends: only jobs whose identity was asked for go on."""
    cdef Job job
    for job in jobs_of(session.handle):
        if job.id == 0:
            job.give_up(session.slot)
        else:
            JOBS.pop((job.session, job.function), None)


cdef object cancel_jobs_of_slot(ferro_slot *slot):
    """A login ends: what rests on it is cancelled."""
    cdef Job job
    for job in [*JOBS.values(), *SAVED.values()]:
        if job.slot == slot.id and (job.running is not None or job.gives >= GIVES_OBJECT):
            job.give_up(slot)


cdef CK_RV drain(Call *call) except *:
    """C_Finalize: jobs whose identity was asked for may come to their end, the others are cancelled."""
    cdef Job job
    cdef ferro_slot *slot
    if FORKED:
        return CKR_OK
    for job in list(JOBS.values()):
        slot = ferro_slot_find(job.slot, NULL)
        if job.id == 0 and slot != NULL:
            job.give_up(slot)
    JOBS.clear()
    end = time.monotonic() + DRAIN_SECONDS
    for job in list(SAVED.values()):
        while not job.ready() and time.monotonic() < end:
            time.sleep(0.005)
        if job.ready():
            job.settle()
        else:
            job.fate.cancelled = True
            job.running.cancel()
            job.running, job.error = None, errors.FunctionCanceled()
        job.core_session = None
    return CKR_OK
