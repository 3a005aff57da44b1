# SPDX-License-Identifier: Apache-2.0
"""A real VM without a daemon: boots the image in QEMU and speaks the guest link to its agent."""

import ctypes
import json
import mmap
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import support

# protocol/frame.h
HELLO, EXEC, MEMORY_GET, EXIT_ACK, PREPARE, MEMORY_DROP = 1, 3, 5, 7, 8, 9
READY, HELLO_REPLY, EXIT, MEMORY, PREPARED = 32, 33, 36, 37, 39
DATA, END = 64, 65
STDIN, STDOUT, STDERR, CODE = range(4)

MACHINE = ("qemu-system-x86_64 -nodefaults -no-user-config -display none -nic none -no-reboot"
           " -M microvm,x-option-roms=off,pit=on,pic=on,rtc=on,acpi=off"
           " -accel tcg,thread=single,tb-size=32 -cpu max,-erms -smp 1 -m 256M"
           " -global virtio-mmio.force-legacy=false -device virtio-serial-device,max_ports=2"
           " -device virtserialport,nr=1,chardev=agent,name=org.execsandbox.agent"
           " -serial chardev:console -device virtio-blk-device,drive=rootfs").split()
# rdtsc; shl rdx, 32; or rax, rdx; ret
READ_TSC = bytes.fromhex("0f3148c1e2204809d0c3")


def tsc_khz():
    """The rate of the host's counter, which TCG passes through: without it boots hang at times."""
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(READ_TSC)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
    begun, first = time.monotonic_ns(), read()
    while time.monotonic_ns() - begun < 100_000_000:
        pass
    return (read() - first) * 1_000_000 // (time.monotonic_ns() - begun)


class Guest:
    """One booted VM whose link is open. Close it."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="execsandbox-guest-")
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(support.DEADLINE)
        self.buffer = b""
        self.exec = self.messages = 0
        self.read_at = 0.0
        options = ("root=/dev/vda rootfstype=erofs ro init=/usr/lib/execsandbox/agent console=ttyS0"
                   f" quiet transparent_hugepage=never norandmaps tsc_early_khz={tsc_khz()}")
        words = MACHINE + [
            "-chardev", f"socket,id=agent,fd={theirs.fileno()}",
            "-chardev", f"file,id=console,path={self.directory}/console",
            "-blockdev", f"driver=file,node-name=rootfs,filename={support.IMAGES}/rootfs.erofs,"
                         "read-only=on,auto-read-only=off,locking=off",
            "-kernel", f"{support.IMAGES}/vmlinux", "-append", options]
        self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()])
        theirs.close()
        self.until(READY)
        self.hello()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.socket.close()
        shutil.rmtree(self.directory)

    @staticmethod
    def frame(kind, stream, payload):
        return struct.pack("<IBI", len(payload), kind, stream) + payload + b"\n"

    def message(self, kind, **fields):
        return self.frame(kind, 0, json.dumps(fields).encode())

    def receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the VM has ended")
        self.read_at = time.monotonic()
        self.buffer += data

    def hello(self):
        nonce, sync = (os.urandom(16).replace(b"\n", b"n") for _ in range(2))
        self.socket.sendall(self.message(HELLO, version=1, nonce=nonce.hex(), sync=sync.hex()))
        while nonce not in self.buffer:
            self.receive()
        self.buffer = self.buffer.partition(nonce)[2]
        self.until(HELLO_REPLY)

    def next(self):
        while True:
            if len(self.buffer) >= 9:
                length, kind, stream = struct.unpack("<IBI", self.buffer[:9])
                if len(self.buffer) >= 10 + length:
                    payload = self.buffer[9:9 + length]
                    self.buffer = self.buffer[10 + length:]
                    return kind, stream, payload
            self.receive()

    def until(self, wanted):
        while True:
            kind, _, payload = self.next()
            if kind == wanted:
                return json.loads(payload)

    def prepare(self, language, count):
        self.messages += 1
        self.socket.sendall(self.message(PREPARE, id=self.messages, language=language, count=count))
        return self.until(PREPARED)

    def memory(self, kind=MEMORY_GET):
        """What the guest says of its memory when it is asked, and the milliseconds that took."""
        self.messages += 1
        begun = time.monotonic()
        self.socket.sendall(self.message(kind, id=self.messages))
        while True:
            memory = self.until(MEMORY)
            if memory["id"] == self.messages:
                return memory, (time.monotonic() - begun) * 1000

    def stream(self, sub, data):
        number = 4 * self.exec + sub
        frames = self.frame(DATA, number, bytes(8) + data) if data else b""
        return frames + self.frame(END, number, struct.pack("<Q", len(data)))

    def run(self, language, code, stdin=b"", rehearsal=True, **fields):
        """EXIT with `stdout`, `stderr` and the milliseconds to the first output and to EXIT itself."""
        return self.end(self.begin(language, code, stdin, rehearsal, **fields))

    def begin(self, language, code, stdin=b"", rehearsal=True, **fields):
        """Sends a program; returns when."""
        self.exec += 1
        request = self.message(EXEC, exec=self.exec, language=language, is_rehearsal=rehearsal,
                               realtime_ns=time.time_ns(), stdout_limit=1 << 20,
                               stderr_limit=1 << 20, **fields)
        begun = time.monotonic()
        self.socket.sendall(request + self.stream(CODE, code.encode()) + self.stream(STDIN, stdin))
        return begun

    def end(self, begun):
        """As run(), of the program that was sent last."""
        outputs, first = {STDOUT: b"", STDERR: b""}, None
        while True:
            kind, stream, payload = self.next()
            if kind == DATA and stream // 4 == self.exec:
                outputs[stream % 4] += payload[8:]
                first = first or (self.read_at - begun) * 1000
            elif kind == EXIT:
                break
        self.socket.sendall(self.message(EXIT_ACK, exec=self.exec))
        return {**json.loads(payload), "stdout": outputs[STDOUT].decode(), "first_ms": first,
                "stderr": outputs[STDERR].decode(), "exit_ms": (self.read_at - begun) * 1000}
