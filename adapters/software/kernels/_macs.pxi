# HMAC-SHA-256 for the store, which seals with keys of its own: they are in the kernels' memory while it is computed.

def mac_into(key, data, out) -> None:
    """Write HMAC-SHA-256 of `data` under `key` into `out`, a buffer of 32 bytes."""
    cdef ferro_kernel_key *loaded = NULL
    cdef ferro_kernel_op *op = NULL
    cdef CK_MECHANISM mechanism
    cdef Py_buffer view, to
    cdef size_t made = 32
    cdef _Views views = _Views.__new__(_Views)
    views.read({CKA_CLASS: _SECRET, CKA_KEY_TYPE: _GENERIC, CKA_VALUE: key}, MATERIAL)
    memset(&mechanism, 0, sizeof(mechanism))
    mechanism.mechanism = CKM_SHA256_HMAC
    check(kernel.key_load(&views.material, &loaded))
    try:
        check(kernel.begin(CKF_SIGN, &mechanism, loaded, &op))
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(out, &to, PyBUF_WRITABLE)
            try:
                if to.len != 32:
                    raise ValueError("an HMAC-SHA-256 has 32 bytes")
                check(kernel.once(op, view.buf, <size_t>view.len, to.buf, &made))
            finally:
                PyBuffer_Release(&to)
        finally:
            PyBuffer_Release(&view)
    finally:
        if op != NULL:
            kernel.op_release(op)
        kernel.key_release(loaded)
        views.release()


cdef bytes _SECRET = (<unsigned long>CKO_SECRET_KEY).to_bytes(8, "little")
cdef bytes _GENERIC = (<unsigned long>CKK_GENERIC_SECRET).to_bytes(8, "little")
