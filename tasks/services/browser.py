"""A real browser (Chromium, headless) that a page is used with: typed into, clicked, read, photographed.

Spoken to over the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) on a web socket.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.services import process

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=900,700",
    "--remote-debugging-port=0",
)  # fmt: skip
TIMEOUT_S = 60


class Page:
    """One tab. Its methods raise UserError with the page's own message when a script in it fails."""

    def __init__(self, socket: Any, session: str) -> None:
        self.socket, self.session, self.ids = socket, session, itertools.count(100)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await called(self.socket, next(self.ids), method, params, self.session)

    async def open(self, address: str) -> None:
        """Load the page and wait until its own script has run."""
        await self.call("Page.enable")
        await self.call("Page.navigate", url=address)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to (awaited when it is a promise)."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            told = found["exceptionDetails"].get("exception", {}).get("description", "a script failed")
            raise UserError(f"in the page: {told}", where=expression)
        return found["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait for a JavaScript condition. UserError when it does not come true in a minute."""
        for _ in range(TIMEOUT_S * 20):
            if await self.value(f"Boolean({condition})"):
                return
            await asyncio.sleep(0.05)
        raise UserError(f"the page never came to: {condition}")

    async def type(self, selector: str, text: str) -> None:
        await self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        await self.value(f"document.querySelector({json.dumps(selector)}).click()")

    async def photograph(self, file: Path) -> None:
        shot = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def page(folder: Path) -> AsyncIterator[Page]:
    """A fresh Chromium with an empty tab; its profile and log go to `folder`."""
    import aiohttp

    profile = folder / "chromium"
    profile.mkdir()
    port = profile / "DevToolsActivePort"
    argv = ["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with process.serve(argv, log=folder / "chromium.log", ready=lambda: port.exists() and port.stat().st_size > 8):
        number, path = port.read_text(encoding="utf-8").splitlines()[:2]
        async with aiohttp.ClientSession() as session:
            address = f"ws://{process.LOOPBACK}:{number}{path}"
            async with session.ws_connect(address, max_msg_size=0) as socket:
                target = await called(socket, 1, "Target.createTarget", {"url": "about:blank"})
                given = {"targetId": target["targetId"], "flatten": True}
                tab = await called(socket, 2, "Target.attachToTarget", given)
                yield Page(socket, tab["sessionId"])


async def called(socket: Any, number: int, method: str, params: dict[str, Any], session: str = "") -> dict[str, Any]:
    """The result of one command; events that come in between are passed over."""
    order = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
    await socket.send_json(order)
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            answer = await socket.receive_json()
            if answer.get("id") == number:
                if "error" in answer:
                    raise UserError(f"Chromium refuses {method}: {answer['error'].get('message')}")
                found: dict[str, Any] = answer.get("result", {})
                return found
