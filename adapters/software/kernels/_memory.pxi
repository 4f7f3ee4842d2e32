# Secret bytes in the arena, and random ones.

cdef class SecretBuffer:
    """`size` bytes, zero at first, in locked memory that is wiped when the buffer goes.

    It has the buffer protocol, writable: read and fill it through a `memoryview`. A child of a
    fork finds zeros in it.
    """

    cdef uint8_t *data
    cdef readonly Py_ssize_t size

    def __cinit__(self, size_t size):
        check(ferro_enter())
        self.data = <uint8_t *>ferro_secret_alloc(size if size > 0 else 1)
        if self.data == NULL:
            raise MemoryError("no secret memory")
        memset(self.data, 0, size)
        self.size = <Py_ssize_t>size

    def __dealloc__(self):
        ferro_free(self.data)

    def __len__(self):
        return self.size

    def __repr__(self):
        return f"<SecretBuffer of {self.size} bytes>"

    def __reduce__(self):
        raise TypeError("a secret buffer is not pickled")

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, 0, flags)

    def wipe(self) -> None:
        """Overwrite the content with zeros."""
        ferro_wipe(self.data, <size_t>self.size)


def secure_random(size_t length) -> SecretBuffer:
    """Return `length` random bytes that never were in ordinary memory."""
    cdef SecretBuffer buffer = SecretBuffer(length)
    check(kernel.random(buffer.data, length))
    return buffer


def random(size_t length) -> bytes:
    """Return `length` random bytes."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
    cdef char *to = PyBytes_AS_STRING(out)
    cdef CK_RV rv
    if length <= GIL_BYTES:
        rv = kernel.random(to, length)
    else:
        with nogil:
            rv = kernel.random(to, length)
    check(rv)
    return out


def seed(data) -> None:
    """Mix `data` into the generator, beside fresh entropy of the system."""
    cdef Py_buffer view
    cdef CK_RV rv
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        rv = kernel.seed(view.buf, <size_t>view.len)
    finally:
        PyBuffer_Release(&view)
    check(rv)


def require_lock(required: bool) -> bool:
    """Say whether all memory so far is locked; when `required`, no other is given out from now on."""
    cdef ferro_arena_status status
    check(ferro_enter())
    ferro_arena_read_status(&status)
    ferro_arena_require_lock(required)
    return status.locked >= status.mapped


def arena_status() -> tuple[int, int, int]:
    """Return bytes made usable, bytes of them locked, and bytes in use by secrets."""
    cdef ferro_arena_status status
    check(ferro_enter())
    ferro_arena_read_status(&status)
    return status.mapped, status.locked, status.in_use
