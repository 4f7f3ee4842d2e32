"""The PKCS#11 ABI: libpkcs11.so (a C loader), the extension module it enters, and the C headers.

The module is imported by libpkcs11.so, never by the core or the adapters.
"""
