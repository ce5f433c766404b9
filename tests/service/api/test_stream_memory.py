"""A stream gives its memory back, however it ends."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.api.websocket import StreamMessage, StreamQuery, _respond
from service.errors import ErrorCode, FrameError
from service.rendering.image_encoding import encode_png
from service.request_state import RequestState


class NoModel:
    """Refuses the file after it is opened."""

    def segment_cine(self, *_: Any) -> Any:
        raise FrameError(ErrorCode.NOT_READY, "no model")


async def receive() -> dict[str, Any]:
    return {"type": "websocket.disconnect"}


async def send_to_nobody(_: Any) -> None:
    raise OSError("the client has disconnected")


def test_a_client_that_disconnects_before_its_response_holds_no_memory() -> None:
    app = SimpleNamespace(state=SimpleNamespace(deployed_model=SimpleNamespace(segmenter=NoModel())))
    scope = {"type": "websocket", "path": "/stream", "headers": [], "client": ("192.0.2.1", 1), "app": app}
    socket = WebSocket(scope, receive, send_to_nobody)
    message = StreamMessage(0, encode_png(np.zeros((64, 64), np.uint8)))

    async def respond() -> None:
        await _respond(message, socket, StreamQuery(drop=False, picture=None))

    with pytest.raises((WebSocketDisconnect, RuntimeError, OSError)):
        asyncio.run(respond())
    memory = RequestState.of(scope).memory
    assert memory.file_bytes == memory.frame_bytes == 0
    assert memory.files.held["192.0.2.1"] == 0
