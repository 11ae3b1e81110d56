"""Servers that this machine has no program for."""

from __future__ import annotations

import os
import shutil
import subprocess


class Missing(Exception):
    """A server can't be had here. Its text says why, for a test's skip."""


def install(package: str) -> None:
    """Install a Debian package, without starting what it brings; nothing elsewhere or as a user."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    # RUNLEVEL 1 keeps Debian's scripts from starting the server that they have just installed.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    # Without a network it is to give up soon: the tests that need the server are skipped then.
    apt = ["apt-get", "-qq", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=0"]
    get = [*apt, "install", "-y", "--no-install-recommends", package]
    print(f"installing {package} …", flush=True)
    for command in (get, [*apt, "update"], get):
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if command is get and done.returncode == 0:
            return
