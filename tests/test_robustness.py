"""Notebooks where a class runs them: two at once, in another folder, on a machine without network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NO_NETWORK = """
import socket

connect = socket.socket.connect


def only_here(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"there is no network, and somebody wants to reach {address}")
    return connect(self, address)


def no_names(host, *arguments, **options):
    if host not in (None, "", "127.0.0.1", "::1", "localhost"):
        raise OSError(f"there is no network, and somebody asks for {host}")
    return found(host, *arguments, **options)


found = socket.getaddrinfo
socket.socket.connect, socket.getaddrinfo = only_here, no_names
"""


@pytest.mark.processes
def test_two_notebooks_at_once_in_another_folder_without_network(tmp_path):
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(NO_NETWORK)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "blocked"), "OMP_NUM_THREADS": "1"}
    probe = [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 1)"]
    asked = subprocess.run(probe, env=environment, capture_output=True, text=True, check=False)
    assert "there is no network" in asked.stderr  # what is to be tested is in place
    files = []
    for name in ("00_start_here", "11_health"):
        folder = tmp_path / name
        folder.mkdir()
        files.append(Path(shutil.copy(NOTEBOOKS / f"{name}.ipynb", folder)))
    command = [sys.executable, "-m", "mtlkit.upkeep.notebooks"]
    running = [
        subprocess.Popen([*command, file.name], cwd=file.parent, env=environment, stderr=subprocess.PIPE, text=True)
        for file in files
    ]
    said = [process.communicate(timeout=400)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    for file in files:
        cells = nbformat.read(file, as_version=4).cells
        assert all(cell.execution_count and cell.outputs is not None for cell in cells if cell.cell_type == "code")
        assert not [o for cell in cells for o in cell.get("outputs", []) if o.output_type == "error"]
