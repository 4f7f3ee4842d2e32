# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The Python face of the kernels: operations, keys and memory that libcrypto computes with in C.

`begin` gives an operation as `ferrohsm.adapters.Operation` has it, or None when the kernels do not
serve the mechanism with this parameter or key; then the caller computes it in another way.
`capsule` gives the table of ``ferrohsm_kernel.h`` for those that need no Python at all.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetPointer, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ferrohsm import errors
from ferrohsm.parameters import Ctr, Ecdh1, EdDsa, Gcm, RsaOaep, RsaPss, SignContext

include "_ck.pxi"

# Below this many bytes a symmetric operation is shorter than giving the interpreter's lock away.
cdef enum:
    GIL_BYTES = 2048
    ATTRIBUTES = 16

cdef const ferro_kernel *kernel = ferro_software_kernel()

# Where a key's cache keeps what the kernels made of it.
_CACHED = "ferrohsm.kernel"

cdef tuple MATERIAL = (
    CKA_CLASS, CKA_KEY_TYPE, CKA_VALUE, CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_PRIVATE_EXPONENT, CKA_PRIME_1,
    CKA_PRIME_2, CKA_EXPONENT_1, CKA_EXPONENT_2, CKA_COEFFICIENT, CKA_EC_PARAMS, CKA_EC_POINT,
    CKA_PARAMETER_SET, CKA_SEED,
)
cdef tuple TEMPLATE = (CKA_VALUE_LEN, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT, CKA_EC_PARAMS, CKA_PARAMETER_SET)
cdef frozenset OPEN = frozenset((CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_EC_PARAMS, CKA_EC_POINT))


cdef int check(CK_RV rv) except -1:
    if rv != CKR_OK:
        raise errors.from_rv(rv)
    return 0


include "_memory.pxi"
include "_parameters.pxi"
include "_keys.pxi"
include "_operation.pxi"
include "_macs.pxi"
include "_generation.pxi"
include "_lent.pxi"
include "_finder.pxi"
include "_postquantum.pxi"


def capsule():
    """Return the kernel table as a capsule named ``ferrohsm.kernel``."""
    return PyCapsule_New(<void *>kernel, FERRO_KERNEL_CAPSULE, NULL)


def name() -> str:
    """Return which engine computes, with its version."""
    return kernel.name.decode()


def serves(function: int, mechanism: int) -> bool:
    """Tell whether the kernels do `function` (a ``CKF_*``) with `mechanism`."""
    return kernel.serves(function, mechanism) == CKR_OK


def stop() -> None:
    """Wipe what is kept ahead: random bytes and the contexts of idle keys."""
    with nogil:
        kernel.stop()


def fork_child() -> None:
    """In the child of a fork: wipe the parent's keys and operations. Harmless elsewhere."""
    kernel.fork_child()


def living() -> int:
    """Return the number of keys and operations that exist, for tests that look for leaks."""
    return ferro_objects_count()
