"""A page in headless Chromium, driven over the DevTools protocol: size, colours, scripts, screenshots, and all that goes wrong on it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0", "--hide-scrollbars",
)  # fmt: skip
TIMEOUT_S = 60


class ChromiumPage:
    """One open page. `errors` are console errors and uncaught exceptions, `requests` the addresses that it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []
        self.requests: list[str] = []

    async def listen(self) -> None:
        """Sort what the browser says, until it is closed."""
        async for message in self._socket:
            content = message.json()
            match content.get("method"):
                case None:
                    answer = self._answers.pop(content["id"])
                    if "error" in content:
                        answer.set_exception(AssertionError(content["error"]))
                    else:
                        answer.set_result(content["result"])
                case "Page.loadEventFired":
                    self._loaded.set()
                case "Network.requestWillBeSent":
                    self.requests.append(content["params"]["request"]["url"])
                case "Runtime.exceptionThrown":
                    self.errors.append(str(content["params"]["exceptionDetails"]))
                case "Log.entryAdded" if content["params"]["entry"]["level"] == "error":
                    self.errors.append(content["params"]["entry"]["text"])
                case "Runtime.consoleAPICalled" if content["params"]["type"] in ("error", "assert"):
                    self.errors.append(str(content["params"]["args"]))

    async def call(self, method: str, **parameters: Any) -> Any:
        """The answer to one command of the protocol."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, TIMEOUT_S)

    async def open(self, page: Path | str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Load a file or an address in a window of this size, in light colours or dark ones."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 800
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=scheme)
        self._loaded.clear()
        await self.call("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())
        await asyncio.wait_for(self._loaded.wait(), TIMEOUT_S)
        await self.settle()

    async def press(self, *keys: str) -> None:
        """Press keys one after the other, as a person does: "j", "ArrowRight", "shift+ArrowRight"."""
        for pressed in keys:
            key = pressed.removeprefix("shift+")
            modifiers = 8 if key != pressed else 0
            text = {"text": key} if len(key) == 1 else {}
            await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **text)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)

    async def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        await self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 150)))")

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are waited for. Raises AssertionError for an exception in it."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def screenshot(self, into: Path, clip: dict[str, float] | None = None) -> None:
        """Write what is to be seen as a PNG file; with `clip` {x, y, width, height, scale} that part of the page."""
        parameters: dict[str, Any] = {"format": "png"}
        if clip is not None:
            parameters |= {"clip": clip, "captureBeyondViewport": True}
        shot = await self.call("Page.captureScreenshot", **parameters)
        into.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def chromium_page(profile: Path) -> AsyncIterator[ChromiumPage]:
    """A browser with a new profile in the folder `profile`, and its one page."""
    assert CHROMIUM, "no Chromium on PATH"
    profile.mkdir(parents=True, exist_ok=True)
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            port = await _port(profile / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as listed:
                    (target,) = [entry for entry in await listed.json() if entry["type"] == "page"]
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = ChromiumPage(socket)
                    listener = asyncio.create_task(page.listen())
                    yield page
                    listener.cancel()
        finally:
            process.terminate()


async def _port(file: Path) -> int:
    """The port that Chromium wrote down when it was ready."""
    for _ in range(TIMEOUT_S * 10):
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        await asyncio.sleep(0.1)
    raise AssertionError(f"Chromium wrote no {file.name} in {TIMEOUT_S} s")
