"""Python processes that tests start begin with torch and its companions imported, where most of their time goes.

A server imports the libraries of `PREPARED` once, and forks for each process that is asked for. To everybody else that
is one of the caller's own children as any other, with its arguments, folder, environment and files. Nothing of Hugging
Face's is imported before, so that what it reads of the environment is the new process's. Other commands than
`python [-u] SCRIPT`, `-c` and `-m` are started as usual, as is where Python or torch find something else to read in
the environment, and by `**UNPREPARED`.
"""

import contextlib
import fcntl
import gc
import multiprocessing.util
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

PREPARED = ("torch", "torchvision", "torchao", "scipy.optimize", "pandas", "pyarrow")
READ_AT_THE_START = ("PYTHON", "TORCH", "OMP_", "MKL_", "KMP_", "LD_", "ATEN_", "DNNL_", "ONEDNN_")
READ_LATER = ("PYTHONPATH", "TORCHINDUCTOR_CACHE_DIR", "TORCHELASTIC_", "TORCH_NCCL_")  # the first by `become`, below
LARGEST_REQUEST, MOST_FILES = 1 << 20, 64
UNUSED_NUMBERS = 500  # of files, from here on
PR_SET_CHILD_SUBREAPER = 36
UNPREPARED = {"executable": sys.executable}  # an argument of `subprocess` that changes nothing else
STARTER = "torch.distributed.run"


class Request(NamedTuple):
    """A process that is asked for: its command line after Python's name, and the numbers that its files have there."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    numbers: list[int]
    new_session: bool


def read_at_the_start(environment: Mapping[str, str]) -> dict[str, str]:
    """What takes effect when Python starts or torch is imported."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_THE_START) and not name.startswith(READ_LATER)
    }


class Server:
    """The server as its user sees it. It is started by the first process that is asked for."""

    def __init__(self, connection: socket.socket | None = None):
        self.variables = read_at_the_start(os.environ)
        self.connection = connection
        self.lock = threading.Lock()

    def suits(self, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        is_plain = len(command) > 1 and (command[1] in ("-c", "-m", "-u") or not command[1].startswith("-"))
        return is_plain and command[0] == sys.executable and read_at_the_start(environment) == self.variables

    def start(self, request: Request, files: list[int]) -> int:
        """Have a process forked that has these of our files; its number."""
        with self.lock:
            if self.connection is None:
                self.connection = self._started()
            socket.send_fds(self.connection, [pickle.dumps(tuple(request))], files)
            return pickle.loads(self.connection.recv(LARGEST_REQUEST))

    def _started(self) -> socket.socket:
        ours, its = socket.socketpair(type=socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__, str(its.fileno())]
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with its:
            self.process = subprocess.Popen(command, pass_fds=[its.fileno()], env=environment, **quiet, **UNPREPARED)
        return ours  # it ends with the last process that has this open, which is the only one


def install(connection: socket.socket | None = None) -> None:
    """Have the children of this process prepared, where the system can: by the server at `connection`, or its own."""
    if sys.platform != "linux":
        return
    import ctypes

    # What the server's own children leave behind becomes a child of this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    server = Server(connection)
    execute_as_usual, spawn_as_usual = subprocess.Popen._execute_child, multiprocessing.util.spawnv_passfds

    def execute_child(popen, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        command = [] if isinstance(args, (str, bytes, os.PathLike)) else [os.fsdecode(part) for part in args]
        environment = dict(os.environ if env is None else env)
        pipes, (_, *user, new_session), group = rest[3:9], rest[9:15], rest[15:]
        special = (executable, preexec_fn, *rest[:3], *user, *group)
        if any(part not in (None, -1, 0) for part in special) or not server.suits(command, environment):
            return execute_as_usual(popen, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
        given = {0: pipes[0], 1: pipes[3], 2: pipes[5]}
        files = {number: number for number in pass_fds}
        files |= {number: number if file == -1 else file for number, file in given.items()}
        folder = os.fsdecode(cwd or os.getcwd())
        request = Request(command[1:], environment, folder, list(files), new_session)
        popen.pid = server.start(request, list(files.values()))
        popen._child_created = True
        popen._close_pipe_fds(*pipes)

    def spawn(path, args, passfds):
        flags = subprocess._args_from_interpreter_flags()  # which the server has as well
        command = [os.fsdecode(part) for part in (path, *args[1 + len(flags) :])]
        if not server.suits(command, os.environ):
            return spawn_as_usual(path, args, passfds)
        files = [0, 1, 2, *map(int, passfds)]
        return server.start(Request(command[1:], dict(os.environ), os.getcwd(), files, False), files)

    subprocess.Popen._execute_child = execute_child
    multiprocessing.util.spawnv_passfds = spawn


def serve(connection: socket.socket) -> tuple[Request, list[int]]:
    """Fork for every request. Returns in the new processes alone: what is asked of them, and their files."""
    while True:
        request, files, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, MOST_FILES)
        if not request:
            os._exit(0)
        read, write = os.pipe()
        between = os.fork()  # ends at once, so that the new process is left to who reaps it
        if between == 0:
            process = os.fork()
            if process == 0:
                connection.close()
                os.close(read)
                os.close(write)
                return Request(*pickle.loads(request)), files
            os.write(write, pickle.dumps(process))
            os._exit(0)
        os.waitpid(between, 0)
        connection.send(os.read(read, 1000))
        for file in (read, write, *files):
            os.close(file)


def become(request: Request, files: list[int]) -> types.CodeType:
    """Make this the process that is asked for, up to its program: that."""
    arguments, environment, folder, numbers, new_session = request
    aside = [fcntl.fcntl(file, fcntl.F_DUPFD, UNUSED_NUMBERS) for file in files]
    for file in files:
        os.close(file)
    for number, file in zip(numbers, aside):
        os.dup2(file, number)
        os.close(file)
    if new_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # as the new process's environment says
    import numpy as np

    np.random.seed()  # not all of them like the server
    if arguments[0] == "-u":
        sys.stdout.reconfigure(line_buffering=True)
        arguments = arguments[1:]
    first, *rest = arguments
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    search = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    if first == "-c":
        sys.path[:1], sys.argv = ["", *search], ["-c", *rest[1:]]
        return compile(rest[0], "<string>", "exec")
    if first == "-m":
        sys.path[:1], sys.argv = [folder, *search], rest
        return compile(f"import runpy; runpy._run_module_as_main({rest[0]!r})", "<string>", "exec")
    sys.path[:1], sys.argv = [str(Path(first).resolve().parent), *search], arguments
    main.__file__ = first
    return compile(Path(first).read_bytes(), first, "exec")


def new_process(connection: socket.socket) -> tuple[Request, list[int], socket.socket | None]:
    """Serve until this is a new process: what is asked of it, and a server for its own children if it starts some."""
    while True:
        request, files = serve(connection)
        if request.arguments[:2] != ["-m", STARTER]:
            return request, files, None
        ours, its = socket.socketpair(type=socket.SOCK_SEQPACKET)
        if os.fork():
            its.close()
            return request, files, ours
        ours.close()
        for file in files:
            os.close(file)
        connection = its


if __name__ == "__main__":
    for library in PREPARED:
        with contextlib.suppress(ImportError):
            import_module(library)
    gc.freeze()  # what is shared stays so, and no process looks through it when it ends
    request, files, server = new_process(socket.socket(fileno=int(sys.argv[1])))
    program = become(request, files)
    if server is not None:
        install(server)
    exec(program, vars(sys.modules["__main__"]))
