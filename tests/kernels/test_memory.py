"""Secret buffers, random bytes and forks, through the Python face of the kernels."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from ferrohsm_adapters.software import _kernels


def run(body: str) -> None:
    """Run a script in a fresh process, where no other test left anything in memory."""
    head = """
        import os, sys
        from ferrohsm import constants as ck, errors
        from ferrohsm.adapters import Key
        from ferrohsm_adapters.software import _kernels as k

        def found(reversed_half, length=16):
            "How often bytes stand in the memory of this process; they are given backwards."
            count = 0
            with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
                for line in maps.read().splitlines():
                    area, mode = line.split()[:2]
                    if mode[0] != "r" or "[v" in line:
                        continue
                    start, end = (int(x, 16) for x in area.split("-"))
                    memory.seek(start)
                    data = bytearray(end - start)
                    try:
                        memory.readinto(data)
                    except OSError:
                        continue
                    at = data.find(reversed_half[-1:])
                    while at >= 0:
                        if all(data[at + i] == reversed_half[length - 1 - i] for i in range(length)):
                            count += 1
                        at = data.find(reversed_half[-1:], at + 1)
                    data[:] = bytes(len(data))
            return count

        def aes_key(value):
            return Key(1, {
                ck.CKA_CLASS: ck.CKO_SECRET_KEY.to_bytes(8, "little"),
                ck.CKA_KEY_TYPE: ck.CKK_AES.to_bytes(8, "little"),
                ck.CKA_VALUE: value,
            })
    """
    script = textwrap.dedent(head) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_secret_buffer_is_zero_writable_and_silent() -> None:
    buffer = _kernels.SecretBuffer(48)
    assert len(buffer) == 48
    with memoryview(buffer) as view:
        assert bytes(view) == bytes(48)
        view[:5] = b"hello"
    assert bytes(memoryview(buffer)[:5]) == b"hello"
    assert "hello" not in repr(buffer)
    buffer.wipe()
    assert bytes(memoryview(buffer)) == bytes(48)
    with pytest.raises(TypeError):
        pickle.dumps(buffer)
    assert len(_kernels.SecretBuffer(0)) == 0


def test_secret_memory_is_counted_and_given_back() -> None:
    before = _kernels.arena_status()[2]
    buffers = [_kernels.SecretBuffer(size) for size in (1, 100, 5000, 100_000)]
    assert _kernels.arena_status()[2] - before >= 105_101
    del buffers
    assert _kernels.arena_status()[2] == before


def test_secret_memory_is_left_out_of_cores_and_locked() -> None:
    buffer = _kernels.secure_random(64)
    mapped, locked, _ = _kernels.arena_status()
    assert 0 <= locked <= mapped
    areas = Path("/proc/self/smaps").read_text()
    flags = []
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", areas):
        if "dd" in block.rsplit("VmFlags:", 1)[-1].split():
            flags.append(block.rsplit("VmFlags:", 1)[-1].split())
    assert any("wf" in each for each in flags), "memory that a fork's child finds wiped"
    assert len(buffer) == 64


def test_random() -> None:
    seen = {_kernels.random(16) for _ in range(2000)}
    assert len(seen) == 2000
    assert _kernels.random(0) == b""
    large = _kernels.random(100_000)
    assert len(large) == 100_000
    assert 49_000 < sum(byte & 1 for byte in large) < 51_000
    _kernels.seed(b"more")
    assert bytes(memoryview(_kernels.secure_random(32))) != bytes(32)


def test_a_released_key_is_not_in_memory() -> None:
    """It must be found before, so that this can fail."""
    run(
        """
        value = bytearray(os.urandom(32))
        backwards = bytearray(reversed(value[:16]))
        key = aes_key(value)
        operation = k.begin(ck.CKF_ENCRYPT, ck.CKM_AES_ECB, None, key)
        operation.once_now(bytes(16))
        value[:] = bytes(32)
        assert found(backwards) > 0, "the kernel keeps the key"
        key.wipe()
        k.stop()
        assert found(backwards) == 0
        assert k.living() == 0
        """
    )


def test_a_child_does_not_have_the_parents_keys_and_works() -> None:
    run(
        """
        value = bytearray(os.urandom(32))
        backwards = bytearray(reversed(value[:16]))
        buffer = k.SecretBuffer(32)
        memoryview(buffer)[:] = value
        key = aes_key(value)
        right = k.begin(ck.CKF_SIGN, ck.CKM_SHA256_HMAC, None, key).once_now(b"data")
        operation = k.begin(ck.CKF_SIGN, ck.CKM_SHA256_HMAC, None, key)
        key_attributes = dict(key.attributes)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                k.fork_child()
                assert bytes(memoryview(buffer)) == bytes(32)
                try:
                    operation.once_now(b"data")
                    raise AssertionError("the parent's operation works")
                except errors.CryptokiNotInitialized:
                    pass
                # The core of the child opens its own store; here the value came along in the object.
                assert k.begin(ck.CKF_SIGN, ck.CKM_SHA256_HMAC, None, key).once_now(b"data") == right
                key.wipe()
                k.stop()
                assert found(backwards) == 0
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert bytes(memoryview(buffer)) == bytes(value)
        assert operation.once_now(b"data") == right
        """
    )


def test_random_bytes_of_parent_and_child_differ() -> None:
    run(
        """
        k.random(16)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, k.random(64))
            os._exit(0)
        mine = k.random(64)
        os.waitpid(pid, 0)
        theirs = os.read(read, 64)
        assert len(theirs) == 64 and mine != theirs
        assert not any(mine[i:i + 8] in theirs for i in range(56))
        """
    )


def test_keys_of_parent_and_child_and_of_threads_differ() -> None:
    """Keys come out of bytes that each thread has ahead: nobody gets those of another, nor after a fork."""
    run(
        """
        import threading

        length = {ck.CKA_VALUE_LEN: (32).to_bytes(8, "little")}

        def made(count):
            return [bytes(k.generate_key(ck.CKM_AES_KEY_GEN, length)[ck.CKA_VALUE]) for _ in range(count)]

        keys = made(200)
        threads = [threading.Thread(target=lambda: keys.extend(made(200))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, b"".join(made(100)))
            os._exit(0)
        keys += made(100)
        os.waitpid(pid, 0)
        theirs = os.read(read, 65536)
        keys += [theirs[i:i + 32] for i in range(0, len(theirs), 32)]
        assert len(keys) == 1200 and len(set(keys)) == 1200
        k.random(16)
        k.seed(b"something")
        assert not set(made(100)) & set(keys)
        """
    )


def test_bytes_ahead_of_keys_are_gone_from_memory() -> None:
    """What a key was made of is wiped where it was kept, at once."""
    run(
        """
        length = {ck.CKA_VALUE_LEN: (32).to_bytes(8, "little")}
        k.generate_key(ck.CKM_AES_KEY_GEN, length)[ck.CKA_VALUE][:] = bytes(32)
        value = k.generate_key(ck.CKM_AES_KEY_GEN, length)[ck.CKA_VALUE]
        backwards = bytearray(reversed(value[:16]))
        assert found(backwards) == 1
        value[:] = bytes(32)
        assert found(backwards) == 0
        """
    )


def test_secret_memory_that_threads_kept_comes_back_when_they_end() -> None:
    run(
        """
        import threading

        left = []

        def work():
            for size in (16, 40, 300, 900, 3000):
                buffers = [k.SecretBuffer(size) for _ in range(50)]
                left.append(buffers.pop())  # another thread gives it back
                del buffers

        def round():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert k.arena_status()[2] > before
            left.clear()
            assert k.arena_status()[2] == before

        before = k.arena_status()[2]
        for _ in range(3):
            round()
        mapped = k.arena_status()[0]
        for _ in range(50):
            round()
        assert k.arena_status()[0] == mapped  # nothing was lost with the threads
        """
    )


def test_a_child_has_secret_memory_of_its_own() -> None:
    """Free blocks that the parent's thread had kept are wiped in the child, and the links between them."""
    run(
        """
        del [k.SecretBuffer(40) for _ in range(40)][:]
        kept = [k.SecretBuffer(40) for _ in range(3)]
        for buffer in kept:
            memoryview(buffer)[:] = b"p" * 40
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                k.fork_child()
                buffers = [k.SecretBuffer(40) for _ in range(60)]
                for number, buffer in enumerate(buffers):
                    assert bytes(memoryview(buffer)) == bytes(40)
                    memoryview(buffer)[:] = bytes([number]) * 40
                for number, buffer in enumerate(buffers):
                    assert bytes(memoryview(buffer)) == bytes([number]) * 40
                del buffers, buffer
                kept.clear()
                del [k.SecretBuffer(40) for _ in range(60)][:]
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert all(bytes(memoryview(buffer)) == b"p" * 40 for buffer in kept)
        """
    )


def test_a_lent_cipher_is_wiped_in_a_child() -> None:
    """What is borrowed of libcrypto keeps an expanded key: a child has none of its parent's."""
    run(
        """
        key = k.random(32)
        backwards = bytearray(reversed(key[:16]))
        value = bytearray(key)
        del key
        cipher = k.lent_cipher("AES-256-CFB1", value, bytes(16), True)
        value[:] = bytes(32)
        room = bytearray(64)
        assert found(backwards) > 0
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert found(backwards) > 0
                k.fork_child()
                assert found(backwards) == 0
                try:
                    cipher.update_into(bytes(16), room)
                except errors.CryptokiNotInitialized:
                    del cipher
                    code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert cipher.update_into(bytes(16), room) == 16
        del cipher
        assert found(backwards) == 0
        """
    )


def test_nothing_of_openssl_is_exported() -> None:
    out = subprocess.run(
        ["nm", "-D", "--defined-only", _kernels.__file__], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in out.stdout.splitlines()] == ["PyInit__kernels"]


def test_the_hosts_openssl_configuration_is_not_read(tmp_path: Path) -> None:
    """The configuration is a pipe that nobody writes to: whoever opens it waits for ever."""
    pipe = tmp_path / "openssl.cnf"
    os.mkfifo(pipe)
    script = """
        from ferrohsm import constants as ck
        from ferrohsm.adapters import Key
        from ferrohsm_adapters.software import _kernels as k

        bits = (1024).to_bytes(8, "little")
        public, private = k.generate_key_pair(ck.CKM_RSA_PKCS_KEY_PAIR_GEN, {ck.CKA_MODULUS_BITS: bits})
        private[ck.CKA_CLASS] = ck.CKO_PRIVATE_KEY.to_bytes(8, "little")
        private[ck.CKA_KEY_TYPE] = ck.CKK_RSA.to_bytes(8, "little")
        print(len(k.begin(ck.CKF_SIGN, ck.CKM_SHA256_RSA_PKCS, None, Key(1, private)).once_now(b"x")))
    """
    environment = {**os.environ, "OPENSSL_CONF": str(pipe), "OPENSSL_MODULES": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (0, "128\n"), done.stderr
