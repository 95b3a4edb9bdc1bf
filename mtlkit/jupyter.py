"""An extension of the Jupyter server: small messages to the browser leave at once.

By default the system holds a small message back until the browser has confirmed the one before it, which it does after
40 ms (Nagle's algorithm and delayed acknowledgement). Each message about a slider is one of several small ones, so a
live lab would wait in each step. The Makefile enables this; without it everything works, with more delay.
"""

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "mtlkit.jupyter"}]


def _load_jupyter_server_extension(app: Any) -> None:
    from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

    opened = KernelWebsocketHandler.open

    async def open_at_once(self: Any, kernel_id: str) -> None:
        self.set_nodelay(True)
        await opened(self, kernel_id)

    KernelWebsocketHandler.open = open_at_once  # type: ignore[method-assign]
