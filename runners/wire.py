"""The wire between the API and a runner: arrays as raw bytes, shape and dtype in headers; no pickle, no JSON numbers.

Here are encoding and decoding, and the client, which maps a runner's errors back to the tree. The server is the runner.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from typing import Self

import httpx
import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import ValidationError

from deskterior.errors import DeskteriorError, Invalid, Overloaded, RunnerFailed
from deskterior.retry_after import retry_after_s
from deskterior.telemetry import traces
from deskterior.telemetry.calls import outside_call
from runners.desk_engine import ModelInfo
from runners.token import token_headers

log = structlog.get_logger(__name__)

SCORE_PATH = "/score"
MODEL_PATH = "/model"
SHAPE = "X-Array-Shape"
DTYPE = "X-Array-Dtype"
DIGEST = "X-Model-Digest"
CONTENT_TYPE = "application/octet-stream"
DTYPES: dict[str, np.dtype[np.generic]] = {"uint8": np.dtype("u1"), "float32": np.dtype("<f4")}
_SHAPE = re.compile(r"[1-9][0-9]{0,4}(,[1-9][0-9]{0,4}){0,3}", re.ASCII)

KEEP_ALIVE_S = 4.0
"""Shorter than the 5 s after which BentoML's server hangs up, so that a connection is seldom stale when it is taken."""
CONNECT_TIMEOUT_S = 5.0
READY_WITHIN_S = 60.0
LONGEST_WAIT_S = 60.0
"""A `Retry-After` beyond it is not believed."""
LATELY_S = 3.0
"""A model that answered so long ago is alive: no health check needs to run it."""


def array_headers(array: NDArray[np.generic]) -> dict[str, str]:
    """The headers that go with `array_bytes(array)`. Raises `KeyError` for a dtype that does not travel."""
    dtype = array.dtype.name
    if dtype not in DTYPES:
        raise KeyError(f"{dtype} does not travel, only {', '.join(DTYPES)}")
    return {"Content-Type": CONTENT_TYPE, SHAPE: ",".join(map(str, array.shape)), DTYPE: dtype}


def array_bytes(array: NDArray[np.generic]) -> bytes:
    """C order, little-endian."""
    return array.astype(DTYPES[array.dtype.name], copy=False).tobytes()


def read_shape(text: str | None) -> tuple[int, ...]:
    """`"1,224,224,3"` to numbers: one to four of 1 to 99999. Raises `Invalid` naming the header."""
    if text is None or not _SHAPE.fullmatch(text):
        raise Invalid(f"{SHAPE} is missing or not one to four numbers, as in 1,224,224,3")
    return tuple(map(int, text.split(",")))


def read_dtype(text: str | None) -> np.dtype[np.generic]:
    if text is None or text not in DTYPES:
        raise Invalid(f"{DTYPE} is missing or none of {', '.join(DTYPES)}")
    return DTYPES[text]


def to_array(body: bytes, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """The array of a body; read-only, no copy. Raises `Invalid` if the body is not as long as shape and dtype say."""
    wanted = math.prod(shape) * dtype.itemsize
    if len(body) != wanted:
        raise Invalid(f"the body has {len(body)} bytes where {SHAPE} and {DTYPE} say {wanted}")
    return np.frombuffer(body, dtype).reshape(shape)


class RunnerGone(Exception):
    """The runner cannot be reached: it is restarting, or was never there. Never leaves this module."""


class RemoteDesk:
    """The desk classifier of another process or machine (a `DeskClient`).

    Scoring has no side effect, so a connection that broke is tried once more: the server may have hung up on an idle
    one, or the runner has died and its successor answers. A runner that cannot be reached is `Overloaded` to callers,
    because it is being restarted and waiting helps; `check` names it instead.
    """

    def __init__(self, client: httpx.AsyncClient, info: ModelInfo, timeout_s: float) -> None:
        self.info = info
        self._client = client
        self._timeout_s = timeout_s
        self._answered_at = -math.inf

    @classmethod
    async def open(
        cls, url: str, timeout_s: float = 30.0, ready_within_s: float = READY_WITHIN_S, *, token: str = ""
    ) -> Self:
        """Connect, waiting for a runner that is still starting. `token` is what that runner demands.

        Raises:
            RunnerFailed: nothing that is a desk classifier answered within `ready_within_s`, or it refused the token.
        """
        client = httpx.AsyncClient(
            base_url=url,
            headers=token_headers(token),
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=KEEP_ALIVE_S),
            trust_env=False,  # a proxy of the environment is for the world outside
        )
        try:
            until = time.monotonic() + ready_within_s
            while True:
                try:
                    return cls(client, await _fetch_info(client), timeout_s)
                except (RunnerGone, httpx.HTTPError):
                    if time.monotonic() > until:
                        raise RunnerFailed(
                            f"No desk classifier answered within {ready_within_s:.0f} s. Is RUNNERS (or DESK_RUNNER) "
                            "the address of a running `bentoml serve runners.desk_classifier:DeskClassifier`?"
                        ) from None
                await asyncio.sleep(0.1)
        except BaseException:
            await client.aclose()
            raise

    async def score(self, photo: NDArray[np.uint8]) -> float:
        """Calibrated probability that `photo`, `(size, size, 3)` uint8 RGB, shows a desk.

        Raises:
            Overloaded: the runner is full, or is being restarted; `retry_after` says when to come back.
            RunnerFailed: the model failed on this photo, or did not answer in time.
        """
        try:
            with outside_call("desk-runner", "score"):
                return await self._score(photo)
        except RunnerGone as error:
            raise Overloaded(
                "The desk classifier is restarting. Try again in a moment.", retry_after=3, internal=str(error)
            ) from error

    async def check(self) -> str:
        """Run the model on an empty photo, unless it has answered lately.

        Raises `RunnerFailed` if that fails, `Overloaded` while it is full.
        """
        try:
            if time.monotonic() - self._answered_at > LATELY_S:
                await self._score(np.zeros((self.info.size, self.info.size, 3), np.uint8))
        except RunnerGone as error:
            raise RunnerFailed("The desk classifier's runner cannot be reached", internal=str(error)) from error
        return f"ok ({self.info.device})"

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _score(self, photo: NDArray[np.uint8]) -> float:
        photo = photo[np.newaxis]
        if photo.dtype != np.uint8 or photo.shape != (1, self.info.size, self.info.size, 3):
            raise RunnerFailed(internal=f"a photo of {photo.dtype} {photo.shape[1:]} was given to the desk classifier")
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._post(array_bytes(photo), {**array_headers(photo), **traces.headers()})
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise RunnerFailed(
                f"The desk classifier did not answer within {self._timeout_s:g} s", internal=repr(error)
            ) from error
        if response.status_code != 200:
            raise _problem(response)
        score = _read_score(response)
        self._answered_at = time.monotonic()
        if response.headers.get(DIGEST, self.info.digest) != self.info.digest:
            await self._learn()
        return score

    async def _learn(self) -> None:
        """The runner has another model now, with a threshold of its own."""
        try:
            self.info = await _fetch_info(self._client)
        except (RunnerGone, httpx.HTTPError) as error:  # the score stands; the next one asks again
            log.warning("desk_runner.info_unknown", error=repr(error))

    async def _post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        for last in (False, True):
            try:
                return await self._client.post(SCORE_PATH, content=body, headers=headers)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise RunnerGone(repr(error)) from error
            except httpx.PoolTimeout as error:
                raise Overloaded("The desk classifier is busy. Try again later.", retry_after=1) from error
            except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
                if last:
                    raise RunnerGone(repr(error)) from error
        raise AssertionError("unreachable")


async def _fetch_info(client: httpx.AsyncClient) -> ModelInfo:
    response = await client.get(MODEL_PATH)
    if response.status_code >= 500:
        raise RunnerGone(f"status {response.status_code}")
    if response.status_code == 401:
        raise RunnerFailed("The runner refused RUNNER_TOKEN: set the same one here and there")
    try:
        response.raise_for_status()
        return ModelInfo.model_validate_json(response.content)
    except (httpx.HTTPStatusError, ValidationError) as error:
        raise RunnerFailed(
            "What answers at RUNNERS (or DESK_RUNNER) is no desk classifier", internal=repr(error)
        ) from None


def _problem(response: httpx.Response) -> DeskteriorError:
    """A runner's refusal as ours. Its text stays in the log."""
    told = f"the runner answered {response.status_code}: {response.text[:300]}"
    if response.status_code in {429, 503}:
        after = retry_after_s(response.headers.get("Retry-After"), LONGEST_WAIT_S)
        wait = 1 if after is None else after
        return Overloaded("The desk classifier is busy. Try again later.", retry_after=wait, internal=told)
    return RunnerFailed(internal=told)


def _read_score(response: httpx.Response) -> float:
    try:
        shape, dtype = read_shape(response.headers.get(SHAPE)), read_dtype(response.headers.get(DTYPE))
        answer = to_array(response.content, shape, dtype)
    except Invalid as error:
        raise RunnerFailed(internal=f"the runner's answer: {error.detail}") from None
    score = float(answer.flat[0])
    if answer.shape != (1,) or dtype != np.float32 or not 0 <= score <= 1:
        raise RunnerFailed(internal=f"the runner's answer is {dtype} {answer.shape} {score}, not a score")
    return score
