"""Code for other processes, started with a clean slate or forked."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def python(code: str, *, folder: Path = ROOT, timeout: float = 120, **environment: str) -> str:
    """Run code in another interpreter; return what it printed, or fail with its error.

    The package is imported from a folder, the project's own when none is given.
    """
    settings = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        cwd=folder,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
