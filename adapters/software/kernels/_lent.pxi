# What the families borrow of libcrypto where their own library has none.

cdef enum:
    LARGEST_BLOCK = 16


cdef class LentCipher:
    """A cipher context in the form of the library's: `update_into`. In the child of a fork it is wiped."""

    cdef ferro_kernel_op *op

    def __dealloc__(self):
        if self.op != NULL:
            ferro_lent_close(self.op)

    def __repr__(self):
        return "<LentCipher>"

    def __reduce__(self):
        raise TypeError("a cipher context is not pickled")

    def update_into(self, data, out) -> int:
        """Pass `data` through into `out`, which has room for a block less a byte more; return the bytes written."""
        cdef Py_buffer given, place
        cdef size_t written = 0
        cdef CK_RV rv
        PyObject_GetBuffer(data, &given, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(out, &place, PyBUF_WRITABLE)
            try:
                if place.len - given.len < LARGEST_BLOCK - 1:
                    raise ValueError("no room for what the cipher gives")
                if given.len < GIL_BYTES:
                    rv = ferro_lent_update(
                        self.op, <uint8_t *>given.buf, given.len, <uint8_t *>place.buf, &written
                    )
                else:
                    with nogil:
                        rv = ferro_lent_update(
                            self.op, <uint8_t *>given.buf, given.len, <uint8_t *>place.buf, &written
                        )
            finally:
                PyBuffer_Release(&place)
        finally:
            PyBuffer_Release(&given)
        check(rv)
        return written


def lends(algorithm: str) -> bool:
    """Say whether libcrypto was built with an algorithm that may be borrowed."""
    return ferro_lends(algorithm.encode()) != 0


def lent_cipher(name: str, key, bytes iv, bint encrypt) -> LentCipher:
    """Return a new context, without padding, of a cipher by libcrypto's name; `iv` may be empty.

    Raises `FunctionNotSupported` for a name, key or vector that libcrypto does not take.
    """
    cdef LentCipher made = LentCipher.__new__(LentCipher)
    cdef bytes encoded = name.encode()
    cdef Py_buffer view
    cdef CK_RV rv
    PyObject_GetBuffer(key, &view, PyBUF_SIMPLE)
    try:
        rv = ferro_lent_cipher(
            encoded, <uint8_t *>view.buf, view.len, <const uint8_t *><char *>iv, len(iv), encrypt, &made.op
        )
    finally:
        PyBuffer_Release(&view)
    check(rv)
    return made


def pkcs12_derive(password, bytes salt, int id, iterations, out) -> None:
    """Fill `out` by the method of PKCS#12 with SHA-1 (RFC 7292, appendix B.2); `id` is the diversifier."""
    cdef uint64_t count = iterations
    cdef Py_buffer given, place
    cdef const uint8_t *start = <const uint8_t *><char *>salt
    cdef size_t salt_length = len(salt)
    cdef CK_RV rv
    PyObject_GetBuffer(password, &given, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &place, PyBUF_WRITABLE)
        try:
            with nogil:
                rv = ferro_lent_pkcs12(
                    <uint8_t *>given.buf, given.len, start, salt_length, id, count, <uint8_t *>place.buf, place.len
                )
        finally:
            PyBuffer_Release(&place)
    finally:
        PyBuffer_Release(&given)
    check(rv)
