"""The official client against the bundled model: what it reads is what `caption` says."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.core.serving.toy_server import PATIENCE_S, data_url, serving
from vlv_core.captioner import Captioner
from vlv_core.loading import load

EXAMPLES = Path(__file__).parents[3] / "plugins" / "vlv_plugins" / "mini" / "model" / "examples"
KEY = "sesame"


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return load("mini", device="cpu", threads=1)


@pytest.fixture(scope="module")
def url(captioner: Captioner) -> Any:
    with serving(captioner, api_key=KEY) as server:
        yield server.running.url


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    with openai.OpenAI(
        base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S
    ) as made:
        yield made


def example(number: int) -> Path:
    return EXAMPLES / f"{number:02}.png"


def messages(number: int) -> Any:
    image = {"url": data_url(example(number).read_bytes()), "detail": "low"}
    parts = [{"type": "text", "text": "describe"}, {"type": "image_url", "image_url": image}]
    return [{"role": "system", "content": "be brief"}, {"role": "user", "content": parts}]


def test_a_completion(client: openai.OpenAI, captioner: Captioner) -> None:
    for number in range(3):
        answer = client.chat.completions.create(model="mini", messages=messages(number))
        [said] = captioner.caption(example(number))
        [choice] = answer.choices
        assert choice.message.content == said.text and choice.finish_reason == "stop"
        assert answer.usage and answer.usage.completion_tokens == len(said.tokens)


def test_a_stream(client: openai.OpenAI, captioner: Captioner) -> None:
    [said] = captioner.caption(example(4))
    chunks = list(
        client.chat.completions.create(
            model="mini",
            messages=messages(4),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *words, last, usage = chunks
    assert "".join(each.choices[0].delta.content or "" for each in words) == said.text
    assert len(words) > 5 and last.choices[0].finish_reason == "stop"
    assert usage.usage and usage.usage.completion_tokens == len(said.tokens)


def test_the_clients_own_stream_helper(client: openai.OpenAI, captioner: Captioner) -> None:
    with client.chat.completions.stream(model="mini", messages=messages(5)) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == captioner.caption(example(5))[0].text


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["mini"]
    assert client.models.retrieve("mini").owned_by == "vlv"


def test_errors_are_the_clients_own(client: openai.OpenAI, url: str) -> None:
    with pytest.raises(openai.BadRequestError, match="n=2 cannot be honoured") as caught:
        client.chat.completions.create(model="mini", messages=messages(0), n=2)
    assert caught.value.param == "n" and caught.value.code == "unsupported_parameter"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-5'"):
        client.chat.completions.create(model="gpt-5", messages=messages(0))
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError, match="the API key is missing or wrong"),
    ):
        stranger.models.list()


def test_many_at_once(url: str, captioner: Captioner) -> None:
    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S
        ) as client:
            requests = [
                client.chat.completions.create(model="mini", messages=messages(number))
                for number in range(10)
            ]
            answers = await asyncio.gather(*requests)
        return [answer.choices[0].message.content for answer in answers]

    said = captioner.caption([example(number) for number in range(10)])
    assert asyncio.run(ask()) == [caption.text for caption in said]
