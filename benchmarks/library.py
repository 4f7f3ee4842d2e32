"""The driver's protocol (driver/main.c) over `cryptography`: the engine of what an older libcrypto has not.

The clock runs in Python here, around a loop of calls that give the interpreter's lock away while they
compute: it adds about a tenth of a microsecond to operations of twenty and more.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from ferrohsm import constants as ck

Step = Callable[[], Any]
Make = Callable[[], Step]


def _signer() -> Any:
    from cryptography.hazmat.primitives.asymmetric import mldsa

    return mldsa.MLDSA65PrivateKey


def _opener() -> Any:
    from cryptography.hazmat.primitives.asymmetric import mlkem

    return mlkem.MLKEM768PrivateKey


def _sign(size: int) -> Step:
    private, message = _signer().generate(), bytes(size)
    return lambda: private.sign(message)


def _verify(size: int) -> Step:
    private, message = _signer().generate(), bytes(size)
    public, signature = private.public_key(), private.sign(message)
    return lambda: public.verify(signature, message)


def _encapsulate(_: int) -> Step:
    public = _opener().generate().public_key()
    encapsulate: Step = public.encapsulate
    return encapsulate


def _decapsulate(_: int) -> Step:
    private = _opener().generate()
    ciphertext = private.public_key().encapsulate()[1]
    return lambda: private.decapsulate(ciphertext)


_OPERATIONS: dict[tuple[str, int], Callable[[int], Step]] = {
    ("sign", ck.CKM_ML_DSA): _sign,
    ("verify", ck.CKM_ML_DSA): _verify,
    ("encapsulate", ck.CKM_ML_KEM): _encapsulate,
    ("decapsulate", ck.CKM_ML_KEM): _decapsulate,
    ("generate-pair", ck.CKM_ML_DSA_KEY_PAIR_GEN): lambda _: _signer().generate,
    ("generate-pair", ck.CKM_ML_KEM_KEY_PAIR_GEN): lambda _: _opener().generate,
}


def _run(step: Step, threads: int, count: int, warm: int) -> int:
    """Return the nanoseconds from the first thread's begin to the last one's end."""
    together = threading.Barrier(threads)
    times: list[int] = []

    def work() -> None:
        for _ in range(warm):
            step()
        together.wait()
        times.append(perf_counter_ns())
        for _ in range(count):
            step()
        times.append(perf_counter_ns())

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    if len(times) != 2 * threads:
        raise RuntimeError("a thread has failed")
    return max(times) - min(times)


def _version() -> str:
    import cryptography
    from cryptography.hazmat.backends.openssl import backend

    return f"cryptography {cryptography.__version__} with {backend.openssl_version_text()}"


class _Library:
    """Answers one request after the other."""

    def __init__(self) -> None:
        self._step: Step | None = None

    def answer(self, fields: list[str]) -> str:
        """Return the line that a request is answered with."""
        match fields:
            case ["engine", _]:
                return "ok " + _version()
            case ["prepare", operation, size, _, mechanism]:
                make = _OPERATIONS.get((operation, int(mechanism, 16)))
                if make is None:
                    return "error no such operation here"
                self._step = make(int(size))
                return "ok"
            case ["run", threads, count, warm] if self._step is not None:
                took = _run(self._step, int(threads), int(count), int(warm))
                return f"ok {took} {int(threads) * int(count)}"
            case ["finish"]:
                self._step = None
                return "ok"
        return "error no such command"


def main() -> None:
    """Answer until there are no more requests."""
    library = _Library()
    for line in sys.stdin:
        fields = line.rstrip("\n").split("\t")
        if fields == ["quit"]:
            break
        try:
            answer = library.answer(fields)
        except Exception as error:
            answer = f"error {type(error).__name__}: {error}"
        print(" ".join(answer.split()), flush=True)


if __name__ == "__main__":
    main()
