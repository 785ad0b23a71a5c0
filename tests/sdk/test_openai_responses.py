"""The official OpenAI client on responses: create, stream, parse, tools, what is kept, async."""

import asyncio
import json
from typing import Literal

import openai
import pydantic
import pytest

TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a town.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string"}, "metric": {"type": "boolean"}},
        "required": ["town", "metric"],
    },
}
CALLED = [{"town": "L'Aquila", "metric": True}, {"town": "Köln", "metric": False}]


class Verdict(pydantic.BaseModel):
    verdict: Literal["good", "bad"]


def test_a_text_is_answered(client):
    response = client.responses.create(model="demo", input="Please say grüße.")
    assert response.status == "completed"
    assert response.output_text == "Grüße aus Köln 😀"
    assert response.usage.output_tokens > 0


def test_the_streaming_helper_follows_the_events(client):
    with client.responses.stream(model="demo", input="Please say grüße.") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text == "Grüße aus Köln 😀"


def test_thoughts_are_items_of_their_own(client):
    with client.responses.stream(model="demo", input="Think first, then greet.") as stream:
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output[0].content[0].text.strip() == "They greet me."
    assert final.output_text == "Hello!"
    assert final.usage.output_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_rambling_model_is_held_to_the_schema(client, stream):
    fields = {"model": "demo", "input": "What is an NPU?", "text_format": Verdict}
    if stream:
        with client.responses.stream(**fields) as events:
            response = events.get_final_response()
    else:
        response = client.responses.parse(**fields)
    assert response.output_parsed.verdict in ("good", "bad")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_loop_of_tools_comes_to_its_end(client, stream):
    fields = {"model": "demo", "input": "The weather in both towns, please.", "tools": [TOOL]}
    if stream:
        with client.responses.stream(**fields) as events:
            first = events.get_final_response()
    else:
        first = client.responses.create(**fields)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(call.arguments) for call in calls] == CALLED
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "clear"}
        for call in calls
    ]
    second = client.responses.create(
        model="demo", input=results, tools=[TOOL], previous_response_id=first.id
    )
    assert second.output_text == "Sunny in L'Aquila, rain in Köln."


def test_what_is_kept_is_found_listed_and_deleted(client):
    first = client.responses.create(model="demo", input="Please say grüße.", metadata={"a": "b"})
    second = client.responses.create(
        model="demo", input="Please say grüße again.", previous_response_id=first.id
    )
    assert second.usage.input_tokens_details.cached_tokens > 0
    found = client.responses.retrieve(first.id)
    assert (found.output_text, found.metadata) == (first.output_text, {"a": "b"})
    items = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    texts = [item.content[0].text for item in items]
    assert texts == ["Please say grüße.", "Grüße aus Köln 😀", "Please say grüße again."]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="demo", input="x", previous_response_id=first.id)
    assert error.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(second.id)


def test_a_built_in_tool_is_refused_by_its_name(client):
    with pytest.raises(openai.BadRequestError, match="web_search") as error:
        client.responses.create(model="demo", input="x", tools=[{"type": "web_search"}])
    assert error.value.param == "tools[0].type"


def test_a_stream_that_breaks_ends_as_failed(client):
    stream = client.responses.create(model="demo", input="Please fail in the middle.", stream=True)
    events = list(stream)
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1].response.error.code == "server_error"


def test_the_async_client(server):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0
        ) as client:
            asks = (client.responses.create(model="demo", input="Say grüße.") for _ in range(3))
            return [response.output_text for response in await asyncio.gather(*asks)]

    assert asyncio.run(ask()) == ["Grüße aus Köln 😀"] * 3
