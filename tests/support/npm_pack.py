"""A file tree out of an npm package, fetched once and checked against a known hash. Nothing of the package is run."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

CACHE = Path(__file__).parents[2] / "node_modules" / ".cache"


def unpacked(package: str, integrity: str, inside: str = "") -> Path:
    """The folder `inside` of `package` (name@version), whose tarball has the given sha512."""
    home = CACHE / package.replace("/", "_")
    if home.exists():
        return home
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--json", package, "--pack-destination", folder]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        tarball = Path(folder) / json.loads(listing)[0]["filename"]
        digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != integrity:
            raise RuntimeError(f"{package} is not the package that was reviewed: sha512-{digest}")
        wanted = f"package/{inside}/" if inside else "package/"
        with tarfile.open(tarball) as archive:
            members = [member for member in archive.getmembers() if member.name.startswith(wanted)]
            archive.extractall(folder, members, filter="data")
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = home.with_name(f"{home.name}.{time.time_ns()}")
        shutil.move(Path(folder) / wanted, partial)
        try:
            partial.rename(home)
        except OSError:  # another process was first
            shutil.rmtree(partial)
    return home
