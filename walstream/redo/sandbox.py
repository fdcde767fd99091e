"""Takes everything away from a redo child that it does not need, and proves that it is gone.

``enter`` runs once, in the child, before the first request. Each wall is tried right after it
stands, by doing what it forbids; a wall that does not hold is a ``SandboxError``, never a warning.
In order:

- file descriptors from 3 up are closed; no new privileges; not dumpable, so not traceable;
- as root: groups dropped, user and group become ``nobody``;
- landlock, where the kernel has it, with no rule at all: no path can be opened;
- rlimits: address space, open files, core, processes, CPU seconds (a soft limit that
  ``renew_cpu_limit`` moves on while requests are answered: only a child that loops dies of it);
- seccomp: an allow-list of reading, writing, memory and exit. Two filters with the same list: the
  first answers everything else with ENOANO, an error that no real call gives, so the attempts
  prove that it was this filter that refused; the second, on top, kills the process instead.

The BPF program is made here, 30 instructions: libseccomp through pyseccomp costs 27 ms of start-up
(it runs ldconfig and a compiler to find the library) and is one more thing to install.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys
import time
from struct import pack

from walstream.errors import SandboxError

MEMORY_LIMIT = 768 * 1024 * 1024
CPU_SECONDS = 60
NOBODY = 65534

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 4, 38, 39
_SECCOMP_SET_MODE_FILTER = 1
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_PROT_EXEC = 4

# Audit architecture, then system call numbers. `always` needs no look at the arguments.
_MACHINES = {
    "x86_64": {
        "arch": (0xC000003E,),
        # read write readv writev futex brk munmap mremap madvise clock_gettime rt_sigreturn
        # restart_syscall getrandom exit exit_group
        "always": (0, 1, 19, 20, 202, 12, 11, 25, 28, 228, 15, 219, 318, 60, 231),
        "memory": (9, 10),  # mmap mprotect: without PROT_EXEC
        "prlimit64": (302,),
        "seccomp": (317,),
        "probes": (41, 101),  # socket ptrace
    },
    "aarch64": {
        "arch": (0xC00000B7,),
        "always": (63, 64, 65, 66, 98, 214, 215, 216, 233, 113, 139, 128, 278, 93, 94),
        "memory": (222, 226),
        "prlimit64": (261,),
        "seccomp": (277,),
        "probes": (198, 117),
    },
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def enter(memory_limit: int = MEMORY_LIMIT, cpu_seconds: int = CPU_SECONDS) -> dict[str, str]:
    """Builds all walls around the calling process; returns what stands, for the status line.

    Everything that the process still wants to import or open must be there already.

    Raises:
        SandboxError: a wall could not be built or did not hold.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _MACHINES:
        raise SandboxError(f"no sandbox for {sys.platform} on {machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    os.closerange(3, 1 << 20)
    state = {"fds": "closed"}
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or not libc.prctl(
        _PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0
    ):
        raise SandboxError(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    state["no_new_privs"] = "on"
    state["user"] = _drop_user()
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    state["landlock"] = _landlock(libc)
    state["rlimits"] = _limit(memory_limit, cpu_seconds)
    state["seccomp"] = _seccomp(libc, _MACHINES[machine])
    return state


def renew_cpu_limit(cpu_seconds: int = CPU_SECONDS) -> None:
    """Allows ``cpu_seconds`` more from now on. Works inside the sandbox; two system calls."""
    soft = int(time.process_time()) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _drop_user() -> str:
    if os.geteuid() != 0:
        return f"uid:{os.geteuid()}"
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as exc:  # a user namespace that does not map nobody
        return f"root({errno.errorcode.get(exc.errno or 0, 'error')})"
    try:
        os.setuid(0)
    except PermissionError:
        return "nobody"
    raise SandboxError("user: root came back after it was given up")


def _landlock(libc: ctypes.CDLL) -> str:
    abi = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if abi < 0:
        return f"absent({errno.errorcode.get(ctypes.get_errno(), 'error')})"
    # All file system rights of this ABI; then TCP bind and connect; then signals and sockets.
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    network, scoped = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)
    attributes = pack("QQQ", rights, network, scoped)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    if ruleset < 0 or libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0):
        raise SandboxError(f"landlock: {os.strerror(ctypes.get_errno())}")
    os.close(ruleset)
    _refused("landlock: open", errno.EACCES, lambda: os.open("/dev/null", os.O_RDONLY))
    return f"on(abi:{abi},refused:open)"


def _limit(memory_limit: int, cpu_seconds: int) -> str:
    limits = (
        ("as", resource.RLIMIT_AS, memory_limit),
        ("nofile", resource.RLIMIT_NOFILE, 3),
        ("core", resource.RLIMIT_CORE, 0),
        ("nproc", resource.RLIMIT_NPROC, 0),
    )
    for _, kind, limit in limits:
        resource.setrlimit(kind, (limit, limit))
        if resource.getrlimit(kind) != (limit, limit):
            raise SandboxError(f"rlimit {kind}: expected {limit}, got {resource.getrlimit(kind)}")
    renew_cpu_limit(cpu_seconds)
    _refused("rlimit nofile: dup", errno.EMFILE, lambda: os.dup(0))
    try:
        bytearray(memory_limit)
    except MemoryError:
        pass
    else:
        raise SandboxError(f"rlimit as: {memory_limit} bytes were given all the same")
    if os.geteuid() != 0:  # root is not bound by it
        _refused("rlimit nproc: fork", errno.EAGAIN, _fork)
    walls = ",".join(f"{name}:{limit}" for name, _, limit in limits)
    return f"{walls},cpu:{cpu_seconds}"


def _seccomp(libc: ctypes.CDLL, machine: dict[str, tuple[int, ...]]) -> str:
    (number,) = machine["seccomp"]
    socket, ptrace = machine["probes"]
    _load(libc, number, _program(machine, (number,), _ERRNO | errno.ENOANO))

    def raw(*arguments: int) -> int:
        result: int = libc.syscall(*arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), "refused")
        return result

    attempts = {
        "open": lambda: os.open("/dev/null", os.O_RDONLY),
        "socket": lambda: raw(socket, 1, 1, 0),
        "fork": _fork,
        "exec": lambda: os.execv("/", ["/"]),
        "ptrace": lambda: raw(ptrace, 0, 0, 0, 0),
        "kill": lambda: os.kill(1, 0),
    }
    for name, attempt in attempts.items():
        _refused(f"seccomp: {name}", errno.ENOANO, attempt)
    _load(libc, number, _program(machine, (), _KILL))
    return f"on(refused:{','.join(attempts)})"


def _load(libc: ctypes.CDLL, number: int, program: bytes) -> None:
    header = _Program(len(program) // 8, program)
    if libc.syscall(number, _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(header)):
        raise SandboxError(f"seccomp: {os.strerror(ctypes.get_errno())}")


def _program(machine: dict[str, tuple[int, ...]], extra: tuple[int, ...], refuse: int) -> bytes:
    """Returns the classic BPF program: 8 bytes an instruction (code, jump true, false, value)."""
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    number, arch, low_word_0, low_word_1, low_word_2 = 0, 4, 16, 24, 32

    def step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return pack("HBBI", code, true, false, value)

    allow = step(give, _ALLOW)
    steps = [
        step(load, arch),
        step(equal, machine["arch"][0], 1, 0),
        step(give, _KILL),
        step(load, number),
    ]
    for call in (*machine["always"], *extra):
        steps += [step(equal, call, 0, 1), allow]
    for call in machine["memory"]:
        steps += [
            step(equal, call, 0, 4),
            step(load, low_word_2),
            step(any_bit, _PROT_EXEC, 1, 0),
            allow,
            step(give, refuse),
        ]
    steps += [
        step(equal, machine["prlimit64"][0], 0, 5),
        step(load, low_word_0),
        step(equal, 0, 0, 3),  # of this process
        step(load, low_word_1),
        step(equal, resource.RLIMIT_CPU, 0, 1),
        allow,
        step(give, refuse),
    ]
    return b"".join(steps)


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def _refused(what: str, expected: int, attempt: object) -> None:
    assert callable(attempt)
    try:
        attempt()
    except OSError as exc:
        if exc.errno != expected:
            raise SandboxError(
                f"{what}: expected {errno.errorcode[expected]}, got {exc.strerror}"
            ) from exc
    else:
        raise SandboxError(f"{what} was not refused")
