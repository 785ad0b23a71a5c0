"""The official OpenAI client with tools, forms and thoughts: the loop, the helpers, pydantic."""

import asyncio
import json
from typing import Literal

import openai
import pydantic
import pytest

BOTH = [{"role": "user", "content": "The weather in both towns, please."}]
ULM = [{"role": "user", "content": "The weather in Ulm, please."}]
THINK = [{"role": "user", "content": "Think first, then greet."}]
PERSON = [{"role": "user", "content": "Ada as JSON."}]

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "metric": {"type": "boolean"}},
            "required": ["town", "metric"],
            "additionalProperties": False,
        },
    },
}
OTHER = {"type": "function", "function": {"name": "do_nothing", "parameters": {"type": "object"}}}
CALLED = [{"town": "L'Aquila", "metric": True}, {"town": "Köln", "metric": False}]


class GetWeather(pydantic.BaseModel):
    """The weather in a town."""

    town: str
    metric: bool


class Person(pydantic.BaseModel):
    name: str
    age: int
    tags: list[str]


class Verdict(pydantic.BaseModel):
    verdict: Literal["good", "bad"]


def chat(client, **fields):
    return client.chat.completions.create(**{"model": "demo", "tools": [TOOL], **fields})


def arguments_of(calls):
    return [json.loads(call.function.arguments) for call in calls]


def test_the_loop_comes_to_its_end(client):
    answer = chat(client, messages=BOTH)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content.strip() == "Let me see."
    calls = choice.message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_weather"]
    assert arguments_of(calls) == CALLED
    assert len({call.id for call in calls}) == 2
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"sky": "clear"})}
        for call in calls
    ]
    final = chat(client, messages=[*BOTH, choice.message, *results])
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content == "Sunny in L'Aquila, rain in Köln."
    assert final.choices[0].message.tool_calls is None


def test_the_content_is_null_where_there_are_only_calls(client):
    message = chat(client, messages=ULM).choices[0].message
    assert message.content is None
    assert arguments_of(message.tool_calls) == [{"town": "Ulm", "metric": True}]


def test_a_stream_says_each_name_and_id_once(client):
    joined = {}
    reasons = []
    for chunk in chat(client, messages=BOTH, stream=True):
        choice = chunk.choices[0]
        reasons.append(choice.finish_reason)
        for call in choice.delta.tool_calls or []:
            if call.index not in joined:
                assert call.id and call.type == "function" and call.function.name == "get_weather"
                joined[call.index] = ""
            else:
                assert call.id is None and call.type is None and call.function.name is None
            joined[call.index] += call.function.arguments
    assert [json.loads(joined[index]) for index in (0, 1)] == CALLED
    assert reasons[-1] == "tool_calls" and set(reasons[:-1]) == {None}


def test_the_streaming_helper_parses_the_arguments(client):
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    with client.chat.completions.stream(model="demo", messages=BOTH, tools=[tool]) as stream:
        done = [
            event.parsed_arguments
            for event in stream
            if event.type == "tool_calls.function.arguments.done"
        ]
        final = stream.get_final_completion()
    assert [weather.model_dump() for weather in done] == CALLED
    calls = final.choices[0].message.tool_calls
    assert [call.function.parsed_arguments.model_dump() for call in calls] == CALLED


def test_the_parse_helper_gives_models(client):
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    answer = client.chat.completions.parse(model="demo", messages=ULM, tools=[tool])
    parsed = answer.choices[0].message.tool_calls[0].function.parsed_arguments
    assert parsed == GetWeather(town="Ulm", metric=True)
    answer = client.chat.completions.parse(model="demo", messages=PERSON, response_format=Person)
    # What is in it depends on where the script is taken up behind a forced beginning.
    assert isinstance(answer.choices[0].message.parsed, Person)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_rambling_model_is_held_to_the_schema(client, stream):
    """The language model of the mock speaks of chips, not in JSON."""
    question = [{"role": "user", "content": "What is an NPU?"}]
    helper = client.chat.completions
    if stream:
        with helper.stream(model="demo", messages=question, response_format=Verdict) as events:
            answer = events.get_final_completion()
    else:
        answer = helper.parse(model="demo", messages=question, response_format=Verdict)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.parsed.verdict in ("good", "bad")


def test_json_mode_gives_an_object(client):
    answer = client.chat.completions.create(
        model="demo", messages=PERSON, response_format={"type": "json_object"}
    )
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_no_call_where_none_is_wanted(client):
    message = chat(client, messages=ULM, tool_choice="none").choices[0].message
    assert not message.tool_calls


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"get_weather", "do_nothing"}),
        ({"type": "function", "function": {"name": "get_weather"}}, {"get_weather"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "get_weather"}}],
                },
            },
            {"get_weather"},
        ),
    ],
    ids=["required", "named", "allowed"],
)
def test_a_call_that_is_demanded_comes(client, choice, names):
    question = [{"role": "user", "content": "What is an NPU?"}]
    answer = chat(client, messages=question, tools=[TOOL, OTHER], tool_choice=choice)
    calls = answer.choices[0].message.tool_calls
    assert calls and {call.function.name for call in calls} <= names
    for call in calls:
        arguments = json.loads(call.function.arguments)
        if call.function.name == "get_weather":
            GetWeather.model_validate(arguments, strict=True)


def test_one_call_where_only_one_is_wanted(client):
    message = chat(client, messages=BOTH, parallel_tool_calls=False).choices[0].message
    assert arguments_of(message.tool_calls) == CALLED[:1]


def test_thoughts_are_told_apart(client):
    answer = client.chat.completions.create(model="demo", messages=THINK)
    message = answer.choices[0].message
    assert (message.content, message.reasoning_content.strip()) == ("Hello!", "They greet me.")
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    said, thought = "", ""
    for chunk in client.chat.completions.create(model="demo", messages=THINK, stream=True):
        delta = chunk.choices[0].delta
        said += delta.content or ""
        thought += getattr(delta, "reasoning_content", None) or ""
    assert (said, thought.strip()) == ("Hello!", "They greet me.")


def test_the_async_client_with_tools(server):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0
        ) as client:
            answers = await asyncio.gather(*(chat(client, messages=BOTH) for _ in range(3)))
            return [arguments_of(answer.choices[0].message.tool_calls) for answer in answers]

    assert asyncio.run(ask()) == [CALLED] * 3
