# Asynchronous function management functions (Section 5.21).

cdef enum:
    NAME_LIMIT = 64  # bytes of a function's name


cdef CK_RV C_AsyncComplete(
    CK_SESSION_HANDLE hSession, CK_UTF8CHAR_PTR pFunctionName, CK_ASYNC_DATA_PTR pResult
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.extra, call.out = pFunctionName, <CK_BYTE *>pResult
    call.bad = pFunctionName == NULL
    return alone(hSession, FERRO_FIND, &call, async_complete, NULL)


cdef CK_RV C_AsyncGetID(
    CK_SESSION_HANDLE hSession, CK_UTF8CHAR_PTR pFunctionName, CK_ULONG_PTR pulID
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.extra, call.out_length = pFunctionName, pulID
    call.bad = pFunctionName == NULL or pulID == NULL
    return alone(hSession, FERRO_FIND, &call, async_get_id, NULL)


cdef CK_RV C_AsyncJoin(
    CK_SESSION_HANDLE hSession, CK_UTF8CHAR_PTR pFunctionName, CK_ULONG ulID, CK_BYTE_PTR pData, CK_ULONG
    ulData
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.extra, call.number = pFunctionName, ulID
    call.out, call.data_length = pData, ulData
    call.bad = pFunctionName == NULL
    return alone(hSession, FERRO_FIND, &call, async_join, NULL)


cdef str function_named(Call *call):
    """Return the function that the caller names. Raises `ArgumentsBad` for one that is never pending."""
    cdef const void *end = NULL
    if not call.bad:
        end = memchr(call.extra, 0, NAME_LIMIT)
    if end == NULL:
        raise errors.ArgumentsBad()
    name = (<const char *>call.extra)[: <const char *>end - <const char *>call.extra].decode("ascii", "replace")
    if name not in FLAG_OF:
        raise errors.ArgumentsBad()
    return name


cdef Job pending_job(Call *call):
    job = JOBS.get((call.session.handle, function_named(call)))
    if job is None:
        raise errors.OperationNotInitialized()
    return job


cdef CK_RV async_complete(Call *call) except *:
    cdef Job job = pending_job(call)
    cdef CK_ASYNC_DATA *result = <CK_ASYNC_DATA *>call.out
    if (result == NULL and job.needs_result()) or (result != NULL and result.ulVersion != 0):
        return CKR_ARGUMENTS_BAD
    if not job.ready():
        return CKR_PENDING
    job.over = True
    forget_job(job)
    job.settle()
    leave_place(call.session, job)
    if result != NULL:
        result.pValue, result.ulValue, result.hObject, result.hAdditionalObject = job.out, 0, 0, 0
    if job.error is not None:
        raise job.error
    call.out, call.room, call.out_length = job.out, job.room, &call.number
    call.number = 0
    deliver(call, job, result)
    if result != NULL:
        result.ulValue = call.number
    return CKR_OK


cdef object deliver(Call *call, Job job, CK_ASYNC_DATA *result):
    """Put out what a job has come to, as its function would have done; lengths and handles go to `result`."""
    value, job.value = job.value, None
    if job.gives == GIVES_BYTES:
        put_checked(call, value)
    elif job.gives == GIVES_MESSAGE:
        call.operation = job.place
        if job.place < 0:
            put_wrapped(call, value, &job.places)
        else:
            put_message(call, value, &job.places)
    elif job.gives == GIVES_OBJECT:
        hand_out(call, value, &result.hObject)
        put_version(job.version, job.version_made)
    elif job.gives == GIVES_PAIR:
        hand_out_pair(call, value, &result.hObject, &result.hAdditionalObject)
    elif job.gives == GIVES_BOTH:
        hand_out_both(call, value, &result.hObject)
    elif job.gives == GIVES_MATERIAL:
        hand_out_material(call, value, &job.material)


cdef CK_RV async_get_id(Call *call) except *:
    cdef Job job
    if call.bad:
        return CKR_ARGUMENTS_BAD
    job = pending_job(call)
    if job.function in CONFIDENTIAL or (job.gives >= GIVES_OBJECT and not job.persistent):
        return CKR_STATE_UNSAVEABLE
    if job.keeps != ENDS or job.elsewhere:  # its operation goes on in this session; its caller's memory is named nowhere else
        return CKR_STATE_UNSAVEABLE
    if job.id == 0:
        if len(SAVED) >= SAVED_LIMIT:
            return CKR_STATE_UNSAVEABLE
        job.id = new_identity()
        SAVED[job.id] = job
    call.out_length[0] = job.id
    return CKR_OK


cdef CK_ULONG new_identity() except 0:
    """Return a number that nobody guesses."""
    import os
    while True:
        number = int.from_bytes(os.urandom(sizeof(CK_ULONG)), "little") >> 1
        if number != 0 and number not in SAVED:
            return number


cdef CK_RV async_join(Call *call) except *:
    name = function_named(call)
    cdef Job job = SAVED.get(call.number)
    if job is None or job.function != name or job.slot != call.slot.id:
        return CKR_SAVED_STATE_INVALID
    if job.state != ferro_session_state(call.session) or not call.session.flags & CKF_ASYNC_SESSION:
        return CKR_SAVED_STATE_INVALID
    if JOBS.get((call.session.handle, name), job) is not job:
        return CKR_OPERATION_ACTIVE
    if job.gives == GIVES_BYTES or job.gives == GIVES_BOTH:
        if call.out == NULL:
            return CKR_ARGUMENTS_BAD
        if call.data_length < job.length:
            return CKR_BUFFER_TOO_SMALL
        job.out, job.room = call.out, call.data_length
    if job.session != call.session.handle:
        JOBS.pop((job.session, name), None)
        job.place = -1
        job.session = call.session.handle
        JOBS[(job.session, name)] = job
    return CKR_OK
