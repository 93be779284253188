"""Start a script on two CPU ranks with msrun on a free port, wait, and leave no process behind."""
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

TOKEN = "MINDARMOUR_TEST_JOB"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def msrun(script, arguments, folder, *, join=True, timeout=420):
    """(exit code of msrun, {rank: log}) of a job of two ranks."""
    token = secrets.token_hex(8)
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, TOKEN: token, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
                   "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if join:  # nobody dies on purpose: a busy machine must not pass for a dead rank
        environment.update(MS_NODE_TIMEOUT="300", MS_RECEIVE_MSG_TIMEOUT="300")
    else:  # seconds until a dead rank is missed, 30 by default
        environment.update(MS_NODE_TIMEOUT="12")
    command = [sys.executable, "-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2",
               "--master_addr=127.0.0.1", f"--master_port={free_port()}", f"--join={join}", f"--log_dir={folder}",
               str(script), *map(str, arguments)]
    deadline = time.monotonic() + timeout
    try:
        with open(Path(folder) / "msrun.log", "w") as log:
            code = subprocess.run(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT,
                                  timeout=timeout, check=False).returncode
        while not join and members(token) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not members(token) or join, "the ranks did not end in time"
    finally:
        for pid in members(token):
            os.kill(pid, signal.SIGKILL)
    return code, {rank: (Path(folder) / f"worker_{rank}.log").read_text(errors="replace") for rank in (0, 1)}


def members(token):
    """Running processes of the job: those that inherited its token."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                running = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue
            if running and f"{TOKEN}={token}".encode() in environment.split(b"\0"):
                found.append(int(entry.name))
    return found
