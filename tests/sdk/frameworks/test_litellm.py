"""LiteLLM with its provider for servers that speak OpenAI's language."""

import json

import litellm
import pytest

from forms import BOTH, CALLED, QUESTION, SUNNY, Person, Verdict

MESSAGES = [{"role": "user", "content": QUESTION}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "metric": {"type": "boolean"}},
            "required": ["town", "metric"],
        },
    },
}


@pytest.fixture
def fields(server):
    return {
        "model": "openai/demo", "api_base": f"{server.url}/v1", "api_key": "unused",
        "temperature": 0, "num_retries": 0,
    }


def test_completion(fields):
    answer = litellm.completion(messages=MESSAGES, **fields)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


def test_stream(fields):
    whole = litellm.completion(messages=MESSAGES, **fields)
    chunks = list(
        litellm.completion(
            messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **fields
        )
    )
    built = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert built.choices[0].message.content == whole.choices[0].message.content
    assert built.choices[0].finish_reason == "stop"
    assert built.usage.completion_tokens == whole.usage.completion_tokens


def test_async(fields, run):
    async def ask():
        whole = await litellm.acompletion(messages=MESSAGES, **fields)
        stream = await litellm.acompletion(messages=MESSAGES, stream=True, **fields)
        return whole, "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    whole, streamed = run(ask())
    assert streamed == whole.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools(fields, stream):
    messages = [{"role": "user", "content": BOTH}]
    answer = litellm.completion(messages=messages, tools=[TOOL], stream=stream, **fields)
    if stream:
        answer = litellm.stream_chunk_builder(list(answer), messages=messages)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == CALLED
    results = [{"role": "tool", "tool_call_id": call.id, "content": "clear"} for call in calls]
    final = litellm.completion(
        messages=[*messages, choice.message, *results], tools=[TOOL], **fields
    )
    assert final.choices[0].message.content == SUNNY


@pytest.mark.parametrize("form", [Person, Verdict])
def test_a_form(fields, form):
    answer = litellm.completion(messages=MESSAGES, response_format=form, **fields)
    form.model_validate_json(answer.choices[0].message.content)


def test_thoughts(fields):
    messages = [{"role": "user", "content": "Think first, then greet."}]
    message = litellm.completion(messages=messages, **fields).choices[0].message
    assert (message.content, message.reasoning_content.strip()) == ("Hello!", "They greet me.")


def test_texts(fields):
    answer = litellm.text_completion(
        **{**fields, "model": "text-completion-openai/demo"}, prompt="Once upon a"
    )
    assert answer.choices[0].text == " time there was a chip."


def test_errors(fields):
    for wrong, kind in [
        ({"model": "openai/absent"}, litellm.NotFoundError),
        ({"temperature": 3}, litellm.BadRequestError),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, litellm.ContextWindowExceededError),
    ]:
        for stream in (False, True):
            with pytest.raises(kind):
                litellm.completion(**{"messages": MESSAGES, **fields, **wrong, "stream": stream})
