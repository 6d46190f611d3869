"""A PostgreSQL server of Debian's package in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def postgres():
    """Start a server and yield the URL of its database; the server and its files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hf_momo_postgres_"))
    # The server refuses to run as root.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, "postgres", "postgres")
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", folder, "-D", folder / "data"]
    initdb = [BINARIES / "initdb", "-D", folder / "data", "-U", "sweeper", "--auth=trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **user)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([BINARIES / "postgres", *options], stdout=log, stderr=log, cwd=folder, **user)
    try:
        for _ in range(300):
            if subprocess.run([BINARIES / "pg_isready", "-h", folder], capture_output=True).returncode == 0:
                break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql+psycopg://sweeper@/postgres?host={folder}"
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(folder)
