# Operations: the protocol `ferrohsm.adapters.Operation` over a kernel operation.

cdef void give_key_back(object capsule) noexcept:
    kernel.key_release(<ferro_kernel_key *>PyCapsule_GetPointer(capsule, "ferrohsm.kernel.key"))


cdef class Operation:
    """One operation on a kernel, used once.

    The coroutines never wait; the methods that end in ``_now`` are the same without one.
    """

    cdef ferro_kernel_op *op
    cdef ferro_kernel_key *key  # the operation has a reference to it
    cdef readonly bint multi_part
    cdef bint busy        # a thread is inside, without the interpreter's lock
    cdef bint closing     # closed meanwhile: that thread releases it
    cdef bint secret_out  # the output is a plaintext: a bytearray, which can be wiped
    cdef bint long_run    # asymmetric: always worth giving the lock away

    def __dealloc__(self):
        if self.op != NULL:
            kernel.op_release(self.op)

    def __repr__(self):
        return "<kernels.Operation>"

    def __reduce__(self):
        raise TypeError("an operation is not pickled")

    cdef int enter(self) except -1:
        if self.op == NULL:
            raise errors.OperationNotInitialized("the operation is over")
        if self.busy:
            raise errors.OperationActive("the operation is in use by another thread")
        self.busy = True
        return 0

    cdef void leave(self, bint over) noexcept:
        self.busy = False
        if over or self.closing:
            self.close()

    def once_length(self, size_t length) -> int:
        cdef size_t out = 0
        self.enter()
        cdef CK_RV rv = kernel.once_length(self.op, length, &out)
        self.leave(False)
        check(rv)
        return out

    def update_length(self, size_t length) -> int:
        cdef size_t out = 0
        self.enter()
        cdef CK_RV rv = kernel.update_length(self.op, length, &out)
        self.leave(False)
        check(rv)
        return out

    def finish_length(self) -> int:
        cdef size_t out = 0
        self.enter()
        cdef CK_RV rv = kernel.finish_length(self.op, &out)
        self.leave(False)
        check(rv)
        return out

    cdef object make(self, size_t length, char **to):
        if self.secret_out:
            out = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>length)
            to[0] = PyByteArray_AS_STRING(out)
        else:
            out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
            to[0] = PyBytes_AS_STRING(out)
        return out

    cdef object trim(self, object out, char *to, size_t made, size_t room):
        if made == room:
            return out
        if self.secret_out:
            memset(to + made, 0, room - made)
            PyByteArray_Resize(out, <Py_ssize_t>made)
            return out
        return out[:made]

    def once_now(self, data) -> bytes | bytearray:
        cdef Py_buffer view
        cdef size_t room = 0, made
        cdef char *to = NULL
        cdef CK_RV rv
        self.enter()
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                check(kernel.once_length(self.op, <size_t>view.len, &room))
                out = self.make(room, &to)
                made = room
                if self.long_run or view.len > GIL_BYTES:
                    with nogil:
                        rv = kernel.once(self.op, view.buf, <size_t>view.len, to, &made)
                else:
                    rv = kernel.once(self.op, view.buf, <size_t>view.len, to, &made)
                check(rv)
            finally:
                PyBuffer_Release(&view)
            return self.trim(out, to, made, room)
        finally:
            self.leave(True)

    def update_now(self, data) -> bytes | bytearray:
        cdef Py_buffer view
        cdef size_t room = 0, made
        cdef char *to = NULL
        cdef CK_RV rv
        cdef bint good = False
        self.enter()
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                check(kernel.update_length(self.op, <size_t>view.len, &room))
                out = self.make(room, &to)
                made = room
                if view.len > GIL_BYTES:
                    with nogil:
                        rv = kernel.update(self.op, view.buf, <size_t>view.len, to, &made)
                else:
                    rv = kernel.update(self.op, view.buf, <size_t>view.len, to, &made)
                check(rv)
            finally:
                PyBuffer_Release(&view)
            good = True
            return self.trim(out, to, made, room)
        finally:
            self.leave(not good)

    def finish_now(self) -> bytes | bytearray:
        cdef size_t room = 0, made
        cdef char *to = NULL
        cdef CK_RV rv
        self.enter()
        try:
            check(kernel.finish_length(self.op, &room))
            out = self.make(room, &to)
            made = room
            if self.long_run or room > GIL_BYTES:
                with nogil:
                    rv = kernel.finish(self.op, to, &made)
            else:
                rv = kernel.finish(self.op, to, &made)
            check(rv)
            return self.trim(out, to, made, room)
        finally:
            self.leave(True)

    def verify_now(self, data, signature) -> None:
        cdef Py_buffer view, right
        cdef CK_RV rv
        self.enter()
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                PyObject_GetBuffer(signature, &right, PyBUF_SIMPLE)
                if self.long_run or view.len > GIL_BYTES:
                    with nogil:
                        rv = kernel.verify(self.op, view.buf, <size_t>view.len, right.buf, <size_t>right.len)
                else:
                    rv = kernel.verify(self.op, view.buf, <size_t>view.len, right.buf, <size_t>right.len)
                PyBuffer_Release(&right)
            finally:
                PyBuffer_Release(&view)
            check(rv)
        finally:
            self.leave(True)

    def finish_verify_now(self, signature) -> None:
        cdef Py_buffer right
        cdef CK_RV rv
        self.enter()
        try:
            PyObject_GetBuffer(signature, &right, PyBUF_SIMPLE)
            if self.long_run:
                with nogil:
                    rv = kernel.finish_verify(self.op, right.buf, <size_t>right.len)
            else:
                rv = kernel.finish_verify(self.op, right.buf, <size_t>right.len)
            PyBuffer_Release(&right)
            check(rv)
        finally:
            self.leave(True)

    async def once(self, data):
        return self.once_now(data)

    async def update(self, data):
        return self.update_now(data)

    async def finish(self):
        return self.finish_now()

    async def verify(self, data, signature):
        self.verify_now(data, signature)

    async def finish_verify(self, signature):
        self.finish_verify_now(signature)

    def kernel_key(self):
        """Return a capsule ``ferrohsm.kernel.key`` with a reference of its own, None for a digest."""
        if self.op == NULL or self.key == NULL:
            return None
        kernel.key_retain(self.key)
        return PyCapsule_New(self.key, "ferrohsm.kernel.key", give_key_back)

    def copy(self) -> Operation:
        """Return a second operation that is where this one is. Raises ``FunctionNotSupported``."""
        cdef Operation made = Operation.__new__(Operation)
        self.enter()
        cdef CK_RV rv = kernel.op_copy(self.op, &made.op)
        self.leave(False)
        check(rv)
        made.key, made.multi_part = self.key, self.multi_part
        made.secret_out, made.long_run = self.secret_out, self.long_run
        return made

    cpdef void close(self) noexcept:
        """End the operation, wiped; may be called twice."""
        cdef ferro_kernel_op *op
        if self.busy:
            self.closing = True
            return
        op = self.op
        self.op = NULL
        if op != NULL:
            kernel.op_release(op)


def begin(CK_FLAGS function, CK_MECHANISM_TYPE mechanism, parameter, key) -> Operation | None:
    """Begin `function` (``CKF_*``) with a mechanism, its decoded parameter and an `adapters.Key` (None for digests).

    None when the kernels do not serve this. Raises ``MechanismParamInvalid``, ``KeySizeRange``,
    ``KeyTypeInconsistent``, ``KeyFunctionNotPermitted``.
    """
    cdef Operation operation
    cdef KernelKey loaded = None
    cdef ferro_kernel_key *with_key = NULL
    cdef Packed packed
    cdef CK_RV rv
    if kernel.serves(function, mechanism) != CKR_OK:
        return None
    packed = pack(mechanism, parameter)
    if packed is None:
        return None
    if key is not None:
        loaded = load(key)
        if loaded is None:
            return None
        with_key = loaded.key
    operation = Operation.__new__(Operation)
    rv = kernel.begin(function, &packed.mechanism, with_key, &operation.op)
    if rv == CKR_FUNCTION_NOT_SUPPORTED:
        return None
    check(rv)
    operation.key = with_key
    operation.multi_part = kernel.multi_part(operation.op)
    operation.secret_out = function == CKF_DECRYPT
    operation.long_run = with_key != NULL and with_key.kind != KEY_SECRET
    return operation
