"""What the official client adds to a request: raw responses, events, retries, timeouts."""

import asyncio
import enum
import json
from typing import Optional

import openai
import pydantic
import pytest

from serving import Server

QUESTION = [{"role": "user", "content": "What is an NPU?"}]
ENDLESS = [{"role": "user", "content": "never stop"}]
BOTH = [{"role": "user", "content": "The weather in both towns, please."}]


class Mood(str, enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Place(pydantic.BaseModel):
    town: str
    height_m: float


class Report(pydantic.BaseModel):
    """Nested, optional, enumerated: what `pydantic` writes as `$defs`, `anyOf` and `enum`."""

    mood: Mood
    place: Place
    others: list[Place]
    remark: Optional[str]


class GetWeather(pydantic.BaseModel):
    """The weather in a town."""

    town: str
    metric: bool


WEATHER = openai.pydantic_function_tool(GetWeather, name="get_weather")


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """At the demo model's own speed, where an endless answer lasts for minutes."""
    server = Server(
        tmp_path_factory.mktemp("slow"),
        MOCK_NPU_SCALE="1",
        RKLLAMA_AUTH__KEYS="ada:secret-of-ada",
        RKLLAMA_AUTH__KEYS_FILE=str(narrow_key(tmp_path_factory.mktemp("keys"))),
    )
    yield server
    server.stop()


def narrow_key(directory):
    keys = directory / "keys.toml"
    keys.write_text('[[key]]\nname = "one"\nsecret = "secret-of-one"\nconcurrent_max = 1\n')
    keys.chmod(0o600)
    return keys


def test_a_raw_response_has_headers_and_the_answer(client):
    raw = client.chat.completions.with_raw_response.create(
        model="demo", messages=QUESTION, temperature=0
    )
    assert raw.status_code == 200 and raw.http_response.headers["content-type"] == "application/json"
    assert raw.retries_taken == 0
    answer = raw.parse()
    assert raw.headers["x-request-id"] == answer._request_id
    assert json.loads(raw.text)["choices"][0]["message"]["content"] == (
        answer.choices[0].message.content
    )


def test_a_raw_stream_is_server_sent_events(client):
    with client.chat.completions.with_streaming_response.create(
        model="demo", messages=QUESTION, stream=True
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = list(response.iter_lines())
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    assert all(json.loads(chunk)["object"] == "chat.completion.chunk" for chunk in data[:-1])


def test_fields_that_are_not_openais_reach_the_server(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(
            model="demo", messages=QUESTION, extra_body={"repeat_penalty": 11}
        )
    assert raised.value.param == "repeat_penalty"
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, extra_body={"top_k": 1, "chat_template_kwargs": {}}
    )
    greedy = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0)
    assert answer.choices[0].message.content == greedy.choices[0].message.content


def test_the_helpers_events_tell_one_story(client):
    with client.chat.completions.stream(
        model="demo", messages=BOTH, tools=[WEATHER], stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
    text, arguments = "", {}
    for event in events:
        if event.type == "content.delta":
            text += event.delta
            assert event.snapshot == text
        elif event.type == "tool_calls.function.arguments.delta":
            arguments[event.index] = arguments.get(event.index, "") + event.arguments_delta
            assert event.arguments == arguments[event.index]
    [content] = [event.content for event in events if event.type == "content.done"]
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert content == text and text.strip() == "Let me see."
    assert {event.index: event.arguments for event in done} == arguments
    assert [event.name for event in done] == ["get_weather", "get_weather"]
    final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage.total_tokens == final.usage.prompt_tokens + final.usage.completion_tokens


def test_a_form_is_parsed_while_it_streams(client):
    with client.chat.completions.stream(
        model="demo", messages=QUESTION, response_format=Report, max_completion_tokens=400
    ) as stream:
        parsed = [event.parsed for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert any(isinstance(part, dict) and part for part in parsed), "parsed before its end"
    assert isinstance(final.choices[0].message.parsed, Report)


def test_a_nested_model_is_parsed(client):
    answer = client.chat.completions.parse(
        model="demo", messages=QUESTION, response_format=Report, max_completion_tokens=400
    )
    assert isinstance(answer.choices[0].message.parsed, Report)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_form_that_is_cut_off_is_said_to_be(client, streamed):
    fields = {"model": "demo", "messages": QUESTION, "response_format": Report, "max_tokens": 3}
    with pytest.raises(openai.LengthFinishReasonError) as raised:
        if streamed:
            with client.chat.completions.stream(**fields) as stream:
                stream.get_final_completion()
        else:
            client.chat.completions.parse(**fields)
    assert raised.value.completion.choices[0].finish_reason == "length"


def test_the_loop_of_tools_in_streams(server):
    """The helper's own message is the history of the next turn, as programs hand it back."""

    async def turns(client):
        messages = list(BOTH)
        for _ in range(3):
            async with client.chat.completions.stream(
                model="demo", messages=messages, tools=[WEATHER]
            ) as stream:
                message = (await stream.get_final_completion()).choices[0].message
            if not message.tool_calls:
                return message.content, messages
            messages.append(message)
            for call in message.tool_calls:
                weather = call.function.parsed_arguments
                result = {"town": weather.town, "sky": "clear"}
                messages.append(
                    {"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)}
                )
        pytest.fail("the model never stopped calling")

    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0
        ) as client:
            return await asyncio.gather(turns(client), turns(client))

    for content, messages in asyncio.run(ask()):
        assert content == "Sunny in L'Aquila, rain in Köln."
        assert len(messages) == 4


def test_the_async_parse_helper(server):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0
        ) as client:
            answer = await client.chat.completions.parse(
                model="demo", messages=QUESTION, response_format=Report, max_completion_tokens=400
            )
            return answer.choices[0].message.parsed, [model.id async for model in client.models.list()]

    parsed, models = asyncio.run(ask())
    assert isinstance(parsed, Report) and models == ["demo"]


def test_a_timeout_of_the_client_ends_the_answer(slow):
    with openai.OpenAI(
        base_url=f"{slow.url}/v1", api_key="secret-of-ada", max_retries=0
    ) as client:
        hasty = client.with_options(timeout=0.5)
        with pytest.raises(openai.APITimeoutError):
            hasty.chat.completions.create(model="demo", messages=ENDLESS)
        # One run at a time: this one is answered only when the other has ended.
        answer = client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=2)
        assert answer.usage.completion_tokens == 2


def test_a_refusal_for_now_is_tried_again(slow):
    refused = []

    def make_room(response):
        if response.status_code == 429:
            refused.append(response.headers["retry-after"])
            running.close()

    http = openai.DefaultHttpxClient(event_hooks={"response": [make_room]})
    url, key = f"{slow.url}/v1", "secret-of-one"
    with (
        openai.OpenAI(base_url=url, api_key=key, max_retries=0) as first,
        openai.OpenAI(base_url=url, api_key=key, max_retries=5, http_client=http) as second,
    ):
        running = first.chat.completions.create(model="demo", messages=ENDLESS, stream=True)
        next(iter(running))
        raw = second.chat.completions.with_raw_response.create(
            model="demo", messages=QUESTION, max_tokens=2
        )
    assert refused and raw.retries_taken == len(refused)
    assert raw.parse().usage.completion_tokens == 2


def test_what_is_wrong_is_not_tried_again(server):
    asked = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [asked.append]})
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="unused", max_retries=2, http_client=http
    ) as client:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="demo", messages=QUESTION, temperature=3)
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("absent")
    assert len(asked) == 2
