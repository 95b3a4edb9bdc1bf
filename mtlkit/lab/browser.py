"""A real JupyterLab in a real Chromium, for tests and benchmarks of the widgets. Needs Playwright and Chromium."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import requests

OWN_FOLDERS = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
TOKEN = secrets.token_urlsafe()  # another one in each process that asks
READY = "async () => { const panel = window.jupyterapp.shell.currentWidget; await panel.sessionContext.ready; "


CONNECTED = """const kernel = panel.sessionContext.session.kernel;
while (kernel.connectionStatus !== 'connected') await new Promise(go => setTimeout(go, 50)); """


def chromium() -> str | None:
    """Return where Chromium is, or `None`."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


def missing() -> str:
    """Say what is missing to open a browser; an empty string if nothing is."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "Playwright is not installed (pip install playwright)"
    return "" if chromium() else "there is no Chromium (Debian: apt install chromium)"


def _end(server: subprocess.Popen) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(server.pid, sign)
            server.wait(10)
            return


def write_notebook(file: Path, *sources: str) -> None:
    """Write a notebook of these code cells, not executed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, file)


@contextlib.contextmanager
def jupyterlab(folder: Path, port: int | None = None) -> Iterator[str]:
    """Serve a folder with JupyterLab, at a free port if none is given, and yield its address; nothing of it is left."""
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as settings:
        command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--port={port}", "--no-browser"]
        command += ["--allow-root", f"--ServerApp.root_dir={folder}"]
        command += ["--LabApp.expose_app_in_browser=True", f"--LabApp.user_settings_dir={settings}/user"]
        command += [f"--LabApp.workspaces_dir={settings}/workspaces", "--LabApp.news_url="]
        log = Path(settings) / "log"
        own = os.environ | {"JUPYTER_TOKEN": TOKEN}  # not among the arguments, which everybody on the machine can read
        own |= {name: f"{settings}/{name}" for name in OWN_FOLDERS}
        with log.open("w", encoding="utf-8") as sink:
            server = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True, env=own)
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                if server.poll() is not None:
                    raise RuntimeError(f"JupyterLab did not start: {log.read_text(encoding='utf-8')[-2000:]}")
                with contextlib.suppress(urllib.error.URLError, ConnectionError):
                    urllib.request.urlopen(f"{address}/api?token={TOKEN}")
                    break
                time.sleep(0.2)
            yield address
        finally:
            _end(server)


class Notebook:
    """A notebook open in a page of the browser.

    Args:
        page: Playwright's.
        address: of the server.
        file: the notebook's path below the server's folder.
    """

    def __init__(self, page: Any, address: str, file: str) -> None:
        self.page = page
        page.goto(f"{address}/lab/tree/{file}?token={TOKEN}&reset", wait_until="domcontentloaded")
        self.settle()

    def settle(self) -> None:
        """Wait until the kernel takes work (it says idle before), and put away what hides the notebook."""
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        self.page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext")
        self.page.evaluate(READY + CONNECTED + "await kernel.requestKernelInfo(); }")
        self.page.evaluate("() => { for (const el of document.querySelectorAll('.Toastify')) el.remove(); }")
        self.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")

    def command(self, name: str, **arguments: Any) -> None:
        """Run a command of JupyterLab, e.g. "notebook:run-all-cells", without waiting for its end."""
        self.page.evaluate(
            "([name, args]) => { void window.jupyterapp.commands.execute(name, args); }", [name, arguments]
        )

    def run_all(self) -> None:
        """Run all cells; returns at once."""
        self.command("notebook:run-all-cells")

    def ask(self, expression: str) -> Any:
        """Return the value of a Python expression in the kernel, through JSON."""
        code = f"import json as _json; _said = _json.dumps({expression})"
        reply = self.page.evaluate(
            READY
            + CONNECTED
            + f"const future = kernel.requestExecute({{code: {json.dumps(code)}, silent: true, store_history: false,"
            " user_expressions: {said: '_said'}});"
            "const reply = await future.done; return reply.content; }"
        )
        if reply["status"] != "ok":
            raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")
        text = reply["user_expressions"]["said"]["data"]["text/plain"]
        return json.loads(text[1:-1].encode().decode("unicode_escape"))


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Yield Playwright's browser, a Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield opened
        opened.close()


class Unwatched:
    """A Chromium without a window that Playwright can leave for a while, as a context manager.

    What watches a page hears of each message that it gets, which takes about a sixth of a core: too much for measuring.

    Attributes:
        page: Playwright's; another object after `leave`.
    """

    def __enter__(self) -> "Unwatched":
        with contextlib.ExitStack() as end:  # if it does not start, nothing of it is left
            self._start(end)
            self._end = end.pop_all()
        return self

    def _start(self, end: contextlib.ExitStack) -> None:
        from playwright.sync_api import sync_playwright

        profile = end.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        command = [str(chromium()), "--headless=new", "--no-sandbox", "--disable-background-networking"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1280,880", "about:blank"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        end.callback(_end, process)
        told = Path(profile) / "DevToolsActivePort"
        deadline = time.monotonic() + 30
        while not told.exists() or not told.read_text():
            if time.monotonic() > deadline:
                raise RuntimeError("Chromium did not start within 30 s")
            time.sleep(0.1)
        self._address = f"http://127.0.0.1:{told.read_text().split()[0]}"
        self._chromium = end.enter_context(sync_playwright()).chromium
        self._come_back()

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._end.close()

    def _come_back(self) -> None:
        self._browser = self._chromium.connect_over_cdp(self._address)
        self.page = self._browser.contexts[0].pages[-1]

    def new_page(self) -> Any:
        """Put an empty page in the place of the one that is open."""
        old, self.page = self.page, self._browser.contexts[0].new_page()
        old.close()
        return self.page

    def leave(self, seconds: float) -> Any:
        """Let the page go on for so long with nobody watching; return it."""
        self._browser.close()
        time.sleep(seconds)
        self._come_back()
        return self.page


def shut_down(address: str, but: str = "") -> None:
    """End all kernels of a server, except for that of the notebook `but`."""
    for session in requests.get(f"{address}/api/sessions", params={"token": TOKEN}, timeout=30).json():
        if session["path"] != but:
            requests.delete(f"{address}/api/sessions/{session['id']}", params={"token": TOKEN}, timeout=30)
