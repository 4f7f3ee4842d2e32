# What finds objects by their name without Python (finder.h), as a store holds it.

from _thread import allocate_lock

cdef const ferro_sqlite *_sqlite = NULL
cdef bint _sqlite_sought = False
cdef object _sqlite_seeking = allocate_lock()


cdef const ferro_sqlite *sqlite() except? NULL:
    """Return the functions of the SQLite that Python's `sqlite3` uses; NULL when they cannot be had."""
    global _sqlite, _sqlite_sought
    if not _sqlite_sought:
        with _sqlite_seeking:  # a second proof would take the first one's hook away
            if not _sqlite_sought:
                _sqlite = proved()
                _sqlite_sought = True
    return _sqlite


cdef const ferro_sqlite *proved() except? NULL:
    import _sqlite3
    from os import fsencode

    from sqlite3 import connect

    cdef const ferro_sqlite *found
    path = getattr(_sqlite3, "__file__", None)  # None: it is a part of the interpreter
    if path is None:
        return NULL
    found = ferro_sqlite_find(fsencode(path))
    if found == NULL:
        return NULL
    try:
        if ferro_sqlite_begin_proof():
            connect(":memory:").close()
    finally:
        seen = ferro_sqlite_end_proof()
    return found if seen else NULL


cdef const uint8_t *exactly(object value, Py_ssize_t size) except NULL:
    """Where the bytes of `value`, bytes or a bytearray, stand; the caller keeps it."""
    if len(value) != size:
        raise ValueError(f"{size} bytes expected")
    if isinstance(value, bytearray):
        return <const uint8_t *>PyByteArray_AS_STRING(value)
    return <const uint8_t *>PyBytes_AS_STRING(<bytes?>value)


cdef void let_go(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef class Finder:
    """Finds in one token's file. `serial` names the token, padded to 16 bytes."""

    cdef ferro_finder *finder
    cdef bytes serial

    def __cinit__(self, bytes serial):
        self.serial = serial
        self.finder = ferro_finder_make(exactly(serial, FERRO_FINDER_NAME))
        if self.finder == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.finder != NULL:
            with nogil:
                ferro_finder_free(self.finder)

    def __repr__(self):
        return "<Finder>"

    def __reduce__(self):
        raise TypeError("a finder is not pickled")

    @property
    def is_open(self) -> bool:
        """Whether it has the file open."""
        return bool(ferro_finder_is_open(self.finder))

    def open(self, uri: str, pragmas: str, bytes incarnation, index_key, chain_key, mac_key) -> bool:
        """Open the file, and say whether that worked; also False where SQLite cannot be reached."""
        cdef const ferro_sqlite *functions = sqlite()
        cdef const uint8_t *keys[3]
        cdef bytes place = uri.encode(), first = pragmas.encode()
        cdef const char *name = place
        cdef const char *commands = first
        cdef const uint8_t *who = exactly(incarnation, FERRO_FINDER_NAME)
        cdef CK_RV rv
        if functions == NULL:
            return False
        keys[0] = exactly(index_key, FERRO_FINDER_KEY)
        keys[1] = exactly(chain_key, FERRO_FINDER_KEY)
        keys[2] = exactly(mac_key, FERRO_FINDER_KEY)
        with nogil:
            rv = ferro_finder_open(self.finder, functions, name, commands, who, keys)
        return rv == CKR_OK

    def close(self) -> None:
        """Close the file, when the searches that are under way have ended."""
        with nogil:
            ferro_finder_close(self.finder)

    def log_in(self, bytes incarnation, index_key, seal_key) -> None:
        """Take the keys of the user's login."""
        cdef const uint8_t *who = exactly(incarnation, FERRO_FINDER_NAME)
        cdef const uint8_t *index = exactly(index_key, FERRO_FINDER_KEY)
        cdef const uint8_t *seal = exactly(seal_key, FERRO_FINDER_KEY)
        cdef CK_RV rv
        with nogil:
            rv = ferro_finder_log_in(self.finder, who, index, seal)
        check(rv)

    def log_out(self) -> None:
        """Wipe the keys of the login, when the searches that are under way have ended."""
        with nogil:
            ferro_finder_log_out(self.finder)

    def abandon(self) -> None:
        """In the child of a fork: never touch again what the parent has open."""
        ferro_finder_abandon(self.finder)

    def capsule(self):
        """Return the finder of ``ferrohsm_finder.h`` as a capsule, which keeps this object."""
        made = PyCapsule_New(<void *>self.finder, FERRO_FINDER_CAPSULE, let_go)
        PyCapsule_SetContext(made, <void *>self)
        Py_INCREF(self)
        return made
