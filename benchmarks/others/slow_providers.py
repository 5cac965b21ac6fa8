"""OpenAI and Naver from afar: fixed waits and answers, no work.

`python -m benchmarks.others.slow_providers PORT [PACE]`; PACE 0 is without the waits. The sandbox draws a picture for
every call, which is work that a makeover's own cost would drown in.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import time

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

DESCRIBE_S, RENDER_S, SEARCH_S = 4.0, 12.0, 0.2
MAKEOVER_S = DESCRIBE_S + RENDER_S
"""What a makeover waits for: the search runs beside the drawing."""
PACE = float(sys.argv[2]) if __name__ == "__main__" and len(sys.argv) > 2 else 1.0


def _picture() -> str:
    out = io.BytesIO()
    Image.effect_noise((1024, 1024), 40).convert("RGB").save(out, "JPEG", quality=85)
    return base64.b64encode(out.getvalue()).decode()


DESCRIPTION = {"prompt": "a calm desk", "keywords": ["마우스", "키보드", "스탠드"], "tags": ["calm"], "mood": "calm"}
PICTURE = _picture()


async def chat(request: Request) -> Response:
    await request.body()
    await asyncio.sleep(DESCRIBE_S * PACE)
    message = {"role": "assistant", "content": json.dumps(DESCRIPTION, ensure_ascii=False), "refusal": None}
    return JSONResponse(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": "gpt-4o",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}],
            "usage": {"prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980},
        }
    )


async def edit(request: Request) -> Response:
    await request.body()
    await asyncio.sleep(RENDER_S * PACE)
    details = {"image_tokens": 300, "text_tokens": 100}
    usage = {"input_tokens": 400, "input_tokens_details": details, "output_tokens": 1000, "total_tokens": 1400}
    return JSONResponse({"created": int(time.time()), "data": [{"b64_json": PICTURE}], "usage": usage})


async def search(request: Request) -> Response:
    await asyncio.sleep(SEARCH_S * PACE)
    query = request.query_params["query"]
    item = {
        "title": f"<b>{query}</b> 무선",
        "link": f"https://search.shopping.naver.com/catalog/{abs(hash(query))}",
        "image": "https://shopping-phinf.pstatic.net/1.jpg",
        "lprice": "21990",
        "hprice": "",
        "mallName": "네이버",
        "productId": str(abs(hash(query))),
        "productType": "1",
        "brand": "",
        "maker": "",
        "category1": "디지털/가전",
        "category2": "주변기기",
        "category3": query,
        "category4": "",
    }
    return JSONResponse({"lastBuildDate": "", "total": 1, "start": 1, "display": 1, "items": [item]})


async def ready(_: Request) -> Response:
    return Response()


app = Starlette(
    routes=[
        Route("/ready", ready),
        Route("/openai/v1/chat/completions", chat, methods=["POST"]),
        Route("/openai/v1/images/edits", edit, methods=["POST"]),
        Route("/naver/v1/search/shop.json", search),
    ]
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
