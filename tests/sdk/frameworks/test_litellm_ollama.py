"""LiteLLM's two providers for servers that speak Ollama's language: one for prompts, one for chats."""

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


@pytest.fixture(params=["ollama", "ollama_chat"])
def fields(request, server):
    return {
        "model": f"{request.param}/demo", "api_base": server.url, "temperature": 0,
        "num_retries": 0,
    }


def test_completion_and_stream(fields):
    whole = litellm.completion(messages=MESSAGES, **fields)
    assert whole.choices[0].message.content and whole.choices[0].finish_reason == "stop"
    usage = whole.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    chunks = list(litellm.completion(messages=MESSAGES, stream=True, **fields))
    built = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert built.choices[0].message.content == whole.choices[0].message.content
    assert built.choices[0].finish_reason == "stop"


def test_async(fields, run):
    async def ask():
        whole = await litellm.acompletion(messages=MESSAGES, **fields)
        stream = await litellm.acompletion(messages=MESSAGES, stream=True, **fields)
        return whole, "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    whole, streamed = run(ask())
    assert streamed == whole.choices[0].message.content != ""


@pytest.mark.parametrize("form", [Person, Verdict])
def test_a_form(fields, form):
    answer = litellm.completion(messages=MESSAGES, response_format=form, **fields)
    form.model_validate_json(answer.choices[0].message.content)


def test_tools(server):
    """Without thoughts: the mock's script calls at once, and would be taken to think of calling."""
    fields = {
        "model": "ollama_chat/demo", "api_base": server.url, "temperature": 0,
        "reasoning_effort": "none",
    }
    messages = [{"role": "user", "content": BOTH}]
    answer = litellm.completion(messages=messages, tools=[TOOL], **fields)
    calls = answer.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == CALLED
    results = [
        {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": "clear"}
        for call in calls
    ]
    messages += [answer.choices[0].message, *results]
    final = litellm.completion(messages=messages, tools=[TOOL], **fields)
    assert final.choices[0].message.content == SUNNY


def test_thoughts(server):
    messages = [{"role": "user", "content": "Think first, then greet."}]
    answer = litellm.completion(
        model="ollama_chat/demo", api_base=server.url, messages=messages, reasoning_effort="low"
    )
    message = answer.choices[0].message
    assert (message.content, message.reasoning_content) == ("Hello!", "They greet me.")


def test_vectors_and_errors(server):
    answer = litellm.embedding(
        model="ollama/demo", api_base=server.url, input=["a cat", "a board"]
    )
    assert len(answer.data) == 2 and len(answer.data[0]["embedding"]) > 8
    for provider in ["ollama", "ollama_chat"]:
        with pytest.raises(litellm.NotFoundError, match="model 'absent' not found"):
            litellm.completion(
                model=f"{provider}/absent", api_base=server.url, messages=MESSAGES, num_retries=0
            )
