# C_GetOperationState and C_SetOperationState (Section 5.6). The core keeps copies of the operations and gives a reference
# to them; a kernel's operation is copied here and handed to the core as one of an adapter's.

from ferrohsm.saved import STATE_LENGTH, Part, close as close_parts


cdef class Kept:
    """A copy of a kernel's operation, as `ferrohsm.adapters.CopyableOperation`."""

    cdef const ferro_kernel *kernel
    cdef ferro_kernel_op *op
    cdef readonly bint multi_part

    def __dealloc__(self):
        self.close()

    cpdef void close(self) noexcept:
        cdef ferro_kernel_op *op = self.op
        self.op = NULL
        if op != NULL:
            self.kernel.op_release(op)

    cdef int check(self, CK_RV rv) except -1:
        if rv != CKR_OK:
            raise errors.from_rv(rv)
        return 0

    cdef int alive(self) except -1:
        if self.op == NULL:
            raise errors.OperationNotInitialized()
        return 0

    def copy(self):
        self.alive()
        return copy_of(self.kernel, self.op)

    def once_length(self, size_t length):
        cdef size_t made = 0
        self.alive()
        self.check(self.kernel.once_length(self.op, length, &made))
        return made

    def update_length(self, size_t length):
        cdef size_t made = 0
        self.alive()
        self.check(self.kernel.update_length(self.op, length, &made))
        return made

    def finish_length(self):
        cdef size_t made = 0
        self.alive()
        self.check(self.kernel.finish_length(self.op, &made))
        return made

    async def once(self, data):
        try:
            return self.put_out(self.once_length(len(data)), data)
        finally:
            self.close()

    async def finish(self):
        try:
            return self.put_out(self.finish_length(), None)
        finally:
            self.close()

    cdef object put_out(self, size_t length, object data):
        """Do it all with `data`, or with None give what is left: a digest or a signature."""
        cdef bytearray out = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>length)
        cdef char *place = PyByteArray_AS_STRING(out)
        cdef const unsigned char[:] view
        cdef const unsigned char *start = NULL
        cdef size_t made = length, size = 0
        cdef CK_RV rv
        if data is None:
            with nogil:
                rv = self.kernel.finish(self.op, place, &made)
        else:
            view = data
            size = view.shape[0]
            start = &view[0] if size != 0 else NULL
            with nogil:
                rv = self.kernel.once(self.op, start, size, place, &made)
        self.check(rv)
        return bytes(out[:made])

    async def update(self, data):
        self.take(data)
        return b""

    cdef int take(self, const unsigned char[:] data) except -1:
        cdef size_t length = data.shape[0], none = 0
        cdef const unsigned char *start = &data[0] if length != 0 else NULL
        cdef CK_RV rv
        self.alive()
        with nogil:
            rv = self.kernel.update(self.op, start, length, NULL, &none)
        return self.check(rv)

    async def verify(self, data, signature):
        self.compare(data, signature, True)

    async def finish_verify(self, signature):
        self.compare(signature, signature, False)

    cdef int compare(self, const unsigned char[:] data, const unsigned char[:] signature, bint in_one) except -1:
        cdef size_t length = data.shape[0], size = signature.shape[0]
        cdef const unsigned char *start = &data[0] if length != 0 else NULL
        cdef const unsigned char *right = &signature[0] if size != 0 else NULL
        cdef CK_RV rv
        self.alive()
        with nogil:
            if in_one:
                rv = self.kernel.verify(self.op, start, length, right, size)
            else:
                rv = self.kernel.finish_verify(self.op, right, size)
        self.close()
        return self.check(rv)


cdef Kept copy_of(const ferro_kernel *kernel, const ferro_kernel_op *op):
    """Return a copy of a kernel's operation. Raises `StateUnsaveable`."""
    cdef Kept kept = Kept.__new__(Kept)
    cdef size_t size = <size_t>&(<ferro_kernel *>NULL).op_copy + sizeof(void *)
    if kernel.size < size or kernel.op_copy == NULL or kernel.op_copy(op, &kept.op) != CKR_OK:
        raise errors.StateUnsaveable()
    kept.kernel = kernel
    kept.multi_part = kernel.multi_part(kept.op)
    return kept


# Save.


cdef CK_RV get_state(Call *call) except *:
    cdef ferro_operation *operations = call.session.operations
    cdef CK_RV rv = CKR_OPERATION_NOT_INITIALIZED
    if call.bad:
        return CKR_ARGUMENTS_BAD
    for place in range(FERRO_OPERATIONS):
        is_pending(call.session, &operations[<int>place])
    if operations[FERRO_ENCRYPT].kind != FERRO_IDLE or operations[FERRO_DECRYPT].kind != FERRO_IDLE:
        return CKR_STATE_UNSAVEABLE
    if operations[FERRO_SIGN].kind != FERRO_IDLE and operations[FERRO_VERIFY].kind != FERRO_IDLE:
        return CKR_STATE_UNSAVEABLE
    session, parts = core_session(call.session), []
    try:
        for place in (FERRO_DIGEST, FERRO_SIGN, FERRO_VERIFY):
            if operations[<int>place].kind != FERRO_IDLE:
                parts.append(saved_part(call, session, place))
        if parts:
            rv = fits_exactly(call, STATE_LENGTH)
        if rv != CKR_OK or call.out == NULL:
            return rv
        state = drive(call, core().save_state(session, ferro_session_state(call.session), parts))
        parts = []
        return put(call, state)
    finally:
        close_parts(parts)


cdef object saved_part(Call *call, object session, int place):
    """Return a copy of one of the session's operations."""
    cdef ferro_operation *operation = &call.session.operations[place]
    cdef ferro_memo *memo
    if operation.phase > FERRO_PARTS:
        raise errors.StateUnsaveable()
    signature = None
    if operation.signature != NULL:
        signature = operation.signature[: operation.signature_length]
    if operation.kind == FERRO_PYTHON:
        bound = drive(call, copy_bound(<object>operation.object))
    else:
        memo = memo_of(operation)
        key = None
        if place != FERRO_DIGEST:
            key = object_id(call.session, memo.decision.handle, errors.OperationNotInitialized)
        function = ferro_operation_flag(place)
        kept = copy_of(memo.decision.kernel, memo.op)
        bound = drive(call, core().bind(session, kept, key, function, memo.decision.mechanism))
    return Part(place, operation.phase, bound, signature)


async def copy_bound(bound):
    """Copy where the adapter's coroutines run."""
    return bound.copy()


# Restore.


cdef CK_RV set_state(Call *call) except *:
    if call.bad:
        return CKR_ARGUMENTS_BAD
    session = core_session(call.session)
    keys = (saved_key(call.session, call.key), saved_key(call.session, call.other))
    state = call.data[: call.data_length] if call.data_length <= <CK_ULONG>STATE_LENGTH else b""
    number = ferro_session_state(call.session)
    parts = drive(call, core().restore_state(session, state, number, keys))
    for place in range(FERRO_OPERATIONS):  # "the ongoing operations are abruptly cancelled"
        drop_operation(&call.session.operations[<int>place])
    try:
        for part in parts:
            restore_part(&call.session.operations[<int>part.place], part)
    except BaseException:
        close_parts(parts)
        for place in range(FERRO_OPERATIONS):
            drop_operation(&call.session.operations[<int>place])
        raise
    return CKR_OK


cdef object saved_key(ferro_session *session, CK_OBJECT_HANDLE handle):
    """Return a key that C_SetOperationState was given; 0 for a handle of nothing."""
    if handle == 0:
        return None
    try:
        return object_id(session, handle, errors.KeyChanged)
    except errors.KeyChanged:
        return 0


cdef int restore_part(ferro_operation *operation, object part) except -1:
    cdef bytes signature = part.signature
    if signature is not None:
        operation.signature = ferro_copy(PyBytes_AS_STRING(signature), len(signature))
        operation.signature_length = len(signature)
        if operation.signature == NULL:
            raise errors.HostMemory()
    start(operation, part.bound)
    operation.phase = part.phase
    return 0
