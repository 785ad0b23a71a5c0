"""The official OpenAI client against a running server: what programs written for OpenAI see."""

import asyncio

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is an NPU?"}]


def chat(client, **fields):
    return client.chat.completions.create(
        **{"model": "demo", "messages": QUESTION, "temperature": 0, **fields}
    )


def test_a_whole_answer_is_complete(client):
    answer = chat(client)
    choice = answer.choices[0]
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "demo"
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert choice.message.refusal is None
    usage = answer.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_says_the_same_as_a_whole_answer(client):
    whole = chat(client)
    stream = chat(client, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert len({c.id for c in chunks}) == 1 and len({c.created for c in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(c.usage is None for c in chunks[:-1])


def test_a_stream_tells_no_usage_unless_asked(client):
    assert all(chunk.usage is None for chunk in chat(client, stream=True))


def test_the_streaming_helper_assembles_the_answer(client):
    with client.chat.completions.stream(model="demo", messages=QUESTION, temperature=0) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert final.choices[0].message.content == chat(client).choices[0].message.content


def test_sampling_changes_the_answer_and_the_same_parameters_repeat_it(client):
    hot = {"temperature": 2, "top_p": 1}
    warm = [chat(client, **hot).choices[0].message.content for _ in range(2)]
    assert warm[0] == warm[1]
    assert warm[0] != chat(client, temperature=0).choices[0].message.content


def test_max_tokens_is_exact_and_says_length(client):
    for limit in (1, 2, 7):
        for field in ("max_tokens", "max_completion_tokens"):
            answer = chat(client, **{field: limit})
            assert answer.usage.completion_tokens == limit
            assert answer.choices[0].finish_reason == "length"


def test_an_endless_answer_ends_at_its_limit(client):
    answer = chat(
        client, messages=[{"role": "user", "content": "never stop"}], max_completion_tokens=50
    )
    assert answer.usage.completion_tokens == 50
    assert answer.choices[0].finish_reason == "length"


def test_a_stop_string_is_never_part_of_the_answer(client):
    whole = chat(client).choices[0].message.content
    word = whole.split()[3]
    for stop in (word, [word, "never said"]):
        cut = chat(client, stop=stop)
        assert cut.choices[0].finish_reason == "stop"
        assert cut.choices[0].message.content == whole[: whole.index(word)]


def test_characters_split_over_tokens_arrive_whole(client):
    stream = chat(client, messages=[{"role": "user", "content": "say grüße"}], stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == "Grüße aus Köln 😀"
    assert not any("\ufffd" in piece for piece in pieces)


def test_the_conversation_reaches_the_model(client):
    def prompt_tokens(messages):
        return chat(client, messages=messages, max_tokens=1).usage.prompt_tokens

    longer = [
        {"role": "developer", "content": "Be brief."},
        *QUESTION,
        {"role": "assistant", "content": "A chip."},
        {"role": "user", "content": [{"type": "text", "text": "What for?"}]},
    ]
    assert prompt_tokens(longer) > prompt_tokens(QUESTION)


def test_parameters_that_cannot_be_honoured_are_named(client):
    answer = client.chat.completions.with_raw_response.create(
        model="demo", messages=QUESTION, seed=7, user="someone", max_tokens=1
    )
    named = {name.strip() for name in answer.headers["x-rkllama-ignored"].split(",")}
    assert named == {"seed", "user"}


def test_models_are_listed_and_found(client):
    listed = client.models.list().data
    assert [model.id for model in listed] == ["demo"]
    assert client.models.retrieve("demo") == listed[0]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/absent")


@pytest.mark.parametrize(
    ("fields", "error", "code", "param"),
    [
        ({"model": "absent"}, openai.NotFoundError, "model_not_found", None),
        ({"messages": []}, openai.BadRequestError, "empty_array", "messages"),
        ({"temperature": 3}, openai.BadRequestError, "decimal_above_max_value", "temperature"),
        ({"top_p": "much"}, openai.BadRequestError, "invalid_type", "top_p"),
        ({"tool_choice": "required"}, openai.BadRequestError, None, "tool_choice"),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            openai.BadRequestError, "invalid_value", "tools[0].function.name",
        ),
        (
            {"messages": [{"role": "tool", "tool_call_id": "call_1", "content": "x"}]},
            openai.BadRequestError, "invalid_value", "messages[0].role",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            openai.BadRequestError, "missing_required_parameter",
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": "endless"}, openai.BadRequestError, "invalid_value", "reasoning_effort"),
        ({"n": 9}, openai.BadRequestError, "integer_above_max_value", "n"),
        (
            {"messages": [{"role": "user", "content": "word " * 9000}]},
            openai.BadRequestError, "context_length_exceeded", "messages",
        ),
        (
            {"messages": [{"role": "user", "content": "fail at once"}]},
            openai.InternalServerError, None, None,
        ),
    ],
    ids=[
        "model", "empty", "range", "type", "choice", "tool", "result", "form", "effort", "n",
        "context", "runtime",
    ],
)
def test_mistakes_raise_the_clients_own_errors(client, fields, error, code, param):
    for stream in (False, True):
        with pytest.raises(error) as raised:
            chat(client, stream=stream, **fields)
        body = raised.value.body
        assert body["message"] and body["type"]
        if code:
            assert body["code"] == code
        if param:
            assert body["param"] == param
        assert raised.value.request_id


def test_a_failure_in_mid_stream_raises(client):
    stream = chat(client, messages=[{"role": "user", "content": "fail in the middle"}], stream=True)
    with pytest.raises(openai.APIError) as raised:
        heard = [chunk.choices[0].delta.content or "" for chunk in stream]
        pytest.fail(f"no error after {heard}")
    assert "runtime" in raised.value.message
    assert chat(client).choices[0].message.content, "the next request works"


def test_several_answers_come_in_turn(client):
    whole = chat(client, n=3)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in whole.choices)
    one = chat(client)
    assert whole.usage.prompt_tokens == one.usage.prompt_tokens
    assert whole.usage.completion_tokens > one.usage.completion_tokens
    with client.chat.completions.stream(model="demo", messages=QUESTION, n=2) as stream:
        final = stream.get_final_completion()
    assert [choice.finish_reason for choice in final.choices] == ["stop", "stop"]


def test_the_async_client_gets_answers_side_by_side(server):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0
        ) as client:
            async def one(limit):
                stream = await chat(client, stream=True, max_tokens=limit)
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            return await asyncio.gather(*(one(limit) for limit in (3, 6, 9, 12)))

    texts = asyncio.run(ask())
    for shorter, longer in zip(texts, texts[1:]):
        assert longer.startswith(shorter) and len(longer) > len(shorter)


def test_probabilities_of_an_answer(client):
    fields = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
    fields |= {"logprobs": True, "top_logprobs": 4, "max_tokens": 20}
    whole = client.chat.completions.create(**fields).choices[0]
    told = whole.logprobs.content
    said = b"".join(bytes(token.bytes) for token in told).decode()
    assert said == whole.message.content
    assert all(len(token.top_logprobs) == 4 and token.logprob <= 0 for token in told)
    with client.chat.completions.stream(**fields) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.logprobs.content == told
