# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=False
"""The functions of PKCS#11 3.2, entered through the loader's trampolines.

The parts follow the specification's table of contents. What a function does with its arguments is one
of a few shapes (`shapes.pxi`); the sessions, handles and slots behind it are C tables (`state/`); what
has to be decided is asked of the core (`bridge.pxi`).
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_SetInterrupt
from cpython.memoryview cimport PyMemoryView_FromMemory, PyMemoryView_GET_BUFFER
from cpython.buffer cimport PyBUF_READ
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport calloc, free, getenv, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from pkcs11_abi.ck cimport *
from pkcs11_abi.functions cimport *
from pkcs11_abi.state cimport *

# How a call is made.
include "bridge.pxi"        # the interpreter: attach, step a coroutine, errors to return values
include "params.pxi"        # CK_MECHANISM and its parameter in
include "marshal.pxi"       # templates in and out, handles, output
include "decisions.pxi"     # what the core decided, remembered
include "auditing.pxi"      # uses of keys, recorded
include "computing.pxi"     # operations that need no Python
include "recipes.pxi"       # session objects that need no Python until they are looked at
include "pending.pxi"       # calls that return before they are done
include "passwords.pxi"     # what a one-time password is given out as
include "shapes.pxi"        # begin, update, transform, finish
include "saving.pxi"        # operations saved and restored

# The specification's chapters.
include "general.pxi"
include "slots.pxi"
include "sessions.pxi"
include "objects.pxi"
include "encryption.pxi"
include "decryption.pxi"
include "digests.pxi"
include "signing.pxi"
include "verifying.pxi"
include "dual.pxi"
include "keys.pxi"
include "authenticated_wrapping.pxi"
include "random.pxi"
include "parallel.pxi"
include "messages.pxi"
include "signed_messages.pxi"
include "asynchronous.pxi"

# What the loader takes.
include "table.pxi"
include "boot.pxi"
