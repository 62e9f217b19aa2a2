"""The objects that OpenAI's clients read, from what a captioner says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlv_core.serving.jobs import Finished

FINISH_REASONS = {"eos": "stop", "repetition": "stop", "length": "length"}
"""a captioner's reasons in OpenAI's words; `stop_reason` has the captioner's own"""


@dataclass(frozen=True)
class Answer:
    """What all objects of one answer share."""

    identity: str
    created: int
    """seconds since 1970"""
    model: str
    prompt_tokens: int
    """length of the picture's prefix, the positions that the language model reads"""

    def completion(self, finished: Finished) -> dict[str, Any]:
        """A whole answer."""
        message = {"role": "assistant", "content": finished.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, **_reasons(finished)}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": self._usage(finished),
        }

    def chunk(self, delta: dict[str, Any], *, include_usage: bool) -> dict[str, Any]:
        """More of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._chunk([choice], include_usage=include_usage)

    def last_chunk(self, finished: Finished, *, include_usage: bool) -> dict[str, Any]:
        """Why a streamed answer ends."""
        nothing: dict[str, Any] = {}
        choice = {"index": 0, "delta": nothing, "logprobs": None, **_reasons(finished)}
        return self._chunk([choice], include_usage=include_usage)

    def usage_chunk(self, finished: Finished) -> dict[str, Any]:
        """What a streamed answer cost."""
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": self._usage(finished),
        }

    def _chunk(self, choices: list[Any], *, include_usage: bool) -> dict[str, Any]:
        chunk = {**self._head("chat.completion.chunk"), "choices": choices}
        return {**chunk, "usage": None} if include_usage else chunk

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.identity, "object": kind, "created": self.created, "model": self.model}

    def _usage(self, finished: Finished) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": finished.tokens,
            "total_tokens": self.prompt_tokens + finished.tokens,
        }


def _reasons(finished: Finished) -> dict[str, str]:
    return {"finish_reason": FINISH_REASONS[finished.reason], "stop_reason": finished.reason}
