"""FerroHSM: a software HSM behind a PKCS#11 module."""

__version__ = "0.1.0"
