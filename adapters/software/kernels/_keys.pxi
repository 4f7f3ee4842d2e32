# Keys of the core as keys of the kernels.

cdef class _Views:
    """Buffers held open while C reads attribute values."""

    cdef Py_buffer views[ATTRIBUTES]
    cdef ferro_kernel_attribute attributes[ATTRIBUTES]
    cdef ferro_kernel_material material

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept:
        while self.material.count > 0:
            self.material.count -= 1
            PyBuffer_Release(&self.views[self.material.count])

    cdef int read(self, object attributes, tuple types) except -1:
        cdef object value
        cdef size_t i
        self.material.attributes = self.attributes
        for attribute_type in types:
            value = attributes.get(attribute_type)
            if value is None or type(value) is tuple:
                continue
            i = self.material.count
            PyObject_GetBuffer(value, &self.views[i], PyBUF_SIMPLE)
            self.attributes[i].type = attribute_type
            self.attributes[i].value = self.views[i].buf
            self.attributes[i].length = <size_t>self.views[i].len
            self.material.count += 1
        return 0


cdef class KernelKey:
    """A parsed key, kept in the cache of an `adapters.Key`."""

    cdef ferro_kernel_key *key

    def __dealloc__(self):
        if self.key != NULL:
            kernel.key_release(self.key)

    def __repr__(self):
        return "<KernelKey>"

    def __reduce__(self):
        raise TypeError("a key is not pickled")


cdef KernelKey load(object key):
    """Return the kernels' form of an `adapters.Key`, or None when they do not take it."""
    cdef KernelKey loaded
    cdef _Views views
    cdef CK_RV rv
    cached = key.cache.get(_CACHED)
    if cached is not None:
        if cached is False:
            return None
        loaded = cached
        # A key of the process that this one was forked from is wiped, and parsed again.
        if ferro_enter() == CKR_OK and loaded.key.epoch == ferro_current_epoch():
            return loaded
    loaded = KernelKey.__new__(KernelKey)
    views = _Views.__new__(_Views)
    views.read(key.attributes, MATERIAL)
    with nogil:
        rv = kernel.key_load(&views.material, &loaded.key)
    views.release()
    if rv == CKR_HOST_MEMORY:
        raise MemoryError("no memory for a key")
    key.cache[_CACHED] = loaded if rv == CKR_OK else False
    return loaded if rv == CKR_OK else None


def key_capsule(key):
    """Return a capsule ``ferrohsm.kernel.key`` with a reference of its own, None when the kernels do not take the key."""
    cdef KernelKey loaded = load(key)
    if loaded is None:
        return None
    kernel.key_retain(loaded.key)
    return PyCapsule_New(loaded.key, "ferrohsm.kernel.key", give_key_back)
