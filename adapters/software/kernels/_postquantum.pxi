# ML-DSA, ML-KEM and SLH-DSA keys that are looked into, and what ML-KEM does; None where libcrypto does not have them.

cdef bytearray value_of(object key, bint is_private):
    """Return the bytes of a key's public or expanded private half."""
    cdef KernelKey loaded = load(key)
    cdef size_t length = 0
    cdef CK_RV rv
    if loaded is None or loaded.key.set == NULL:
        return None
    check(ferro_postquantum_value(loaded.key, is_private, NULL, &length))
    out = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>length)
    rv = ferro_postquantum_value(loaded.key, is_private, <uint8_t *>PyByteArray_AS_STRING(out), &length)
    check(rv)
    return out


def public_value(key) -> bytes | None:
    """Return the public key of an `adapters.Key` of either half; None when it is no key of its parameter set."""
    made = value_of(key, False)
    return None if made is None else bytes(made)


def expanded_value(key) -> bytearray | None:
    """Return the expanded form of a private key, whose parts belong together; None when it is none."""
    cdef KernelKey loaded = load(key)
    cdef CK_RV rv
    if loaded is None or loaded.key.set == NULL:
        return None
    with nogil:
        rv = ferro_postquantum_check(loaded.key)
    if rv == CKR_ATTRIBUTE_VALUE_INVALID:
        return None
    check(rv)
    return value_of(key, True)


def encapsulate(key) -> tuple[bytearray, bytes] | None:
    """Return a new shared secret, and the ciphertext that holds it for the owner of the ML-KEM public key."""
    cdef KernelKey loaded = load(key)
    cdef uint8_t *to
    cdef uint8_t *hidden
    cdef CK_RV rv
    if loaded is None or loaded.key.set == NULL:
        return None
    ciphertext = PyBytes_FromStringAndSize(NULL, loaded.key.set.output_length)
    secret = PyByteArray_FromStringAndSize(NULL, FERRO_SHARED_SECRET)
    to, hidden = <uint8_t *>PyBytes_AS_STRING(ciphertext), <uint8_t *>PyByteArray_AS_STRING(secret)
    with nogil:
        rv = ferro_encapsulate(loaded.key, to, hidden)
    check(rv)
    return secret, ciphertext


def decapsulate(key, ciphertext) -> bytearray | None:
    """Return the secret that `ciphertext` holds; of a wrong one another secret, as FIPS 203 has it."""
    cdef KernelKey loaded = load(key)
    cdef Py_buffer view
    cdef uint8_t *hidden
    cdef CK_RV rv
    if loaded is None or loaded.key.set == NULL:
        return None
    secret = PyByteArray_FromStringAndSize(NULL, FERRO_SHARED_SECRET)
    hidden = <uint8_t *>PyByteArray_AS_STRING(secret)
    PyObject_GetBuffer(ciphertext, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            rv = ferro_decapsulate(loaded.key, <const uint8_t *>view.buf, <size_t>view.len, hidden)
    finally:
        PyBuffer_Release(&view)
    check(rv)
    return secret
