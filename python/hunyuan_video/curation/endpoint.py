"""A vision-language model behind an OpenAI-compatible endpoint: pictures and a request in, a JSON object out."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from hunyuan_video.errors import ArgumentError, UserError

PASSING = {408, 409, 425, 429}  # statuses that a later try may not meet, with all from 500 on
HOPELESS = {401, 403, 404, 405}  # that no clip will pass
LONGEST_PAUSE = 60.0  # seconds
LARGEST_ANSWER = 1 << 20  # bytes
TOKENS = 700  # of an answer


class AnswerError(Exception):
    """One request has no usable answer; the text says why. passing: another try may have one."""

    def __init__(self, reason: str, passing: bool = True, pause: float = 0.0):
        super().__init__(reason)
        self.passing, self.pause = passing, pause


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server. url: up to and with /v1. timeout: seconds without a byte from it."""

    url: str
    model: str
    key: str = ""
    timeout: float = 120.0
    tries: int = 4
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ArgumentError(f"endpoint must be a URL such as http://localhost:8000/v1, got {self.url!r}")
        if not self.model:
            raise ArgumentError("say with --model which model of the endpoint writes the captions")
        if self.timeout <= 0 or self.tries < 1:
            raise ArgumentError(f"timeout must be above 0 and tries at least 1, got {self.timeout:g} and {self.tries}")

    def ask(self, request: str, pictures: Sequence[bytes]) -> dict[str, Any]:  # JPEG
        """The JSON object of the answer. AnswerError after the last try; UserError where no request can succeed."""
        pause = 1.0
        for number in range(1, self.tries + 1):
            try:
                return json_object(self._post(self._body(request, pictures)))
            except AnswerError as error:
                if number == self.tries or not error.passing:
                    raise
                self.sleep(min(max(pause, error.pause), LONGEST_PAUSE))
                pause *= 2
        raise AssertionError("unreachable")

    def _body(self, request: str, pictures: Sequence[bytes]) -> bytes:
        content: list[dict[str, Any]] = [{"type": "text", "text": request}]
        for picture in pictures:
            url = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
            content.append({"type": "image_url", "image_url": {"url": url}})
        messages = [{"role": "user", "content": content}]
        return json.dumps({"model": self.model, "messages": messages, "temperature": 0, "max_tokens": TOKENS}).encode()

    def _post(self, body: bytes) -> str:
        """The text of the answer."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                data = answer.read(LARGEST_ANSWER)
        except urllib.error.HTTPError as error:
            raise self._status(error) from None
        except TimeoutError:
            raise AnswerError(f"no answer within {self.timeout:g} s") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise AnswerError(f"no answer within {self.timeout:g} s") from None
            raise AnswerError(f"no connection ({reason or type(error).__name__})") from None
        try:
            text = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise AnswerError("the answer is not a chat completion") from None
        return str(text or "")

    def _status(self, error: urllib.error.HTTPError) -> Exception:
        reason = f"{error.code} {_message(error)}".strip()
        if error.code in HOPELESS:
            return UserError(f"{self.url}: {reason}; check --endpoint, --model and OPENAI_API_KEY")
        try:
            pause = float(error.headers.get("Retry-After") or 0)
        except ValueError:  # a date: the usual pauses
            pause = 0.0
        return AnswerError(reason, error.code in PASSING or error.code >= 500, pause)


def _message(error: urllib.error.HTTPError) -> str:
    try:
        body = json.loads(error.read(LARGEST_ANSWER))["error"]
        text = str(body["message"] if isinstance(body, dict) else body)
    except (OSError, HTTPException, ValueError, KeyError, TypeError, RecursionError):
        text = str(error.reason)
    return " ".join(text.split())[:200]


def json_object(text: str) -> dict[str, Any]:
    """The JSON object in an answer, also one with words or a fence around it. AnswerError without one."""
    start, end = text.find("{"), text.rfind("}")
    try:
        value = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise AnswerError("the answer holds no JSON object")
    return value
