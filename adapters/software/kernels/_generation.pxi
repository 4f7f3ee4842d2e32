# New keys, and secrets that two keys share.

cdef object given(const ferro_kernel_material *material):
    cdef size_t i
    cdef dict out = {}
    for i in range(material.count):
        attribute_type = material.attributes[i].type
        start = <const char *>material.attributes[i].value
        if attribute_type in OPEN:
            out[attribute_type] = PyBytes_FromStringAndSize(start, <Py_ssize_t>material.attributes[i].length)
        else:
            out[attribute_type] = PyByteArray_FromStringAndSize(start, <Py_ssize_t>material.attributes[i].length)
    return out


cdef object make(CK_MECHANISM_TYPE mechanism, object template):
    """Return (public, secret) attributes that were generated, or None when the kernels do not serve it."""
    cdef Packed packed = pack(mechanism, None)
    cdef _Views views = _Views.__new__(_Views)
    cdef ferro_kernel_generated *generated = NULL
    cdef CK_RV rv
    views.read(template, TEMPLATE)
    with nogil:
        rv = kernel.generate(&packed.mechanism, &views.material, &generated)
    views.release()
    if rv == CKR_FUNCTION_NOT_SUPPORTED:
        return None
    check(rv)
    try:
        return given(&generated.open), given(&generated.secret)
    finally:
        kernel.generated_release(generated)


def generate_key(CK_MECHANISM_TYPE mechanism, attributes) -> dict[int, bytes | bytearray] | None:
    """Return ``CKA_VALUE`` of a new secret key of ``CKA_VALUE_LEN`` bytes, as a bytearray; None when not served."""
    made = make(mechanism, attributes)
    return None if made is None else made[1]


def generate_key_pair(CK_MECHANISM_TYPE mechanism, public):
    """Return (public, private) attributes of a new pair; None when not served.

    `public` holds ``CKA_MODULUS_BITS`` and ``CKA_PUBLIC_EXPONENT``, ``CKA_EC_PARAMS`` or ``CKA_PARAMETER_SET``. Secret
    values are bytearrays. ``CKA_EC_POINT`` is an OCTET STRING for EC, plain bytes for other curves.
    """
    return make(mechanism, public)


def derive(CK_MECHANISM_TYPE mechanism, parameter, key, size_t length) -> bytearray | None:
    """Return the secret that `key` and the public value of an `Ecdh1` share, or what is derived from it.

    With a derivation function `length` bytes, else the whole shared secret. None when not served.
    """
    cdef Packed packed = pack(mechanism, parameter)
    cdef KernelKey loaded
    cdef size_t room = length
    cdef char *to
    cdef CK_RV rv
    if packed is None or kernel.serves(CKF_DERIVE, mechanism) != CKR_OK:
        return None
    loaded = load(key)
    if loaded is None:
        return None
    rv = kernel.derive(&packed.mechanism, loaded.key, NULL, &room)
    if rv == CKR_FUNCTION_NOT_SUPPORTED:
        return None
    check(rv)
    out = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>room)
    to = PyByteArray_AS_STRING(out)
    with nogil:
        rv = kernel.derive(&packed.mechanism, loaded.key, to, &room)
    check(rv)
    PyByteArray_Resize(out, <Py_ssize_t>room)
    return out
