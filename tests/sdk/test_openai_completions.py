"""The official OpenAI client on text completions."""

import asyncio

import openai
import pytest

PROMPT = "Once upon a"
ANSWER = " time there was a chip."


def complete(client, **fields):
    return client.completions.create(**{"model": "demo", "prompt": PROMPT, **fields})


def test_a_whole_completion_is_complete(client):
    answer = complete(client)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason, choice.index) == (ANSWER, "stop", 0)
    assert choice.logprobs is None
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_says_the_same(client):
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == ANSWER
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].id.startswith("cmpl-")
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage == complete(client).usage


def test_sixteen_tokens_are_the_default(client):
    answer = complete(client, prompt="An NPU", temperature=0)
    assert answer.usage.completion_tokens <= 16
    longer = complete(client, prompt="An NPU", temperature=0, max_tokens=40)
    assert longer.choices[0].text.startswith(answer.choices[0].text)


def test_each_prompt_gets_its_choices(client):
    prompts = [f"1 {PROMPT}", f"2 {PROMPT}"]
    answer = complete(client, prompt=prompts, n=2, echo=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == [
        text + ANSWER for text in (prompts[0], prompts[0], prompts[1], prompts[1])
    ]
    alone = sum(complete(client, prompt=prompt).usage.prompt_tokens for prompt in prompts)
    assert answer.usage.prompt_tokens == alone


def test_the_text_is_taken_as_it_is(client):
    """Without the chat template a text has as many tokens as it has."""
    text = complete(client, prompt="chip").usage.prompt_tokens
    messages = [{"role": "user", "content": "chip"}]
    chat = client.chat.completions.create(model="demo", messages=messages, max_tokens=1)
    assert text < chat.usage.prompt_tokens


def test_token_ids_are_taken_as_they_are(client):
    answer = complete(client, prompt=[5, 6, 7], max_tokens=3)
    assert answer.usage.prompt_tokens == 3
    several = complete(client, prompt=[[5, 6], [7]], max_tokens=3)
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.usage.prompt_tokens == 3


def test_no_tokens_are_legal_with_the_prompt_before_them(client):
    answer = complete(client, max_tokens=0, echo=True)
    assert answer.choices[0].text == PROMPT
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 0)


def test_a_stop_text_ends_the_answer(client):
    answer = complete(client, stop=[" was"])
    assert answer.choices[0].text == " time there"
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"suffix": "the end"}, "unsupported_value", "model"),
        ({"suffix": "the end", "prompt": [1]}, "unsupported_parameter", "suffix"),
        ({"best_of": 21}, "integer_above_max_value", "best_of"),
        ({"prompt": []}, "empty_array", "prompt"),
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": [99_999_999]}, "invalid_value", "prompt"),
        ({"prompt": [1], "echo": True}, "unsupported_parameter", "echo"),
        ({"prompt": "word " * 20_000}, "context_length_exceeded", "prompt"),
        ({"n": 9}, "integer_above_max_value", "n"),
    ],
    ids=["suffix", "suffix_of_tokens", "best_of", "empty", "blank", "token", "echo", "context", "n"],
)
def test_mistakes_raise_the_clients_own_errors(client, fields, code, param):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            complete(client, stream=stream, **fields)
        assert (raised.value.body["code"], raised.value.body["param"]) == (code, param)


def test_the_async_client(server):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0
        ) as client:
            stream = await complete(client, stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream])

    assert asyncio.run(ask()) == ANSWER


def test_the_prompts_own_probabilities(client):
    """As evaluation programs ask."""
    answer = complete(client, echo=True, max_tokens=0, logprobs=2)
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == PROMPT == "".join(told.tokens)
    assert told.token_logprobs[0] is None and told.top_logprobs[0] is None
    assert all(logprob <= 0 for logprob in told.token_logprobs[1:])
    assert all(2 <= len(top) <= 3 for top in told.top_logprobs[1:])
    assert told.text_offset[:2] == [0, len(told.tokens[0])]


def test_the_best_of_several(client):
    answer = complete(client, best_of=3, n=1, max_tokens=4, logprobs=0)
    assert len(answer.choices) == 1
    assert answer.usage.completion_tokens >= 3
    with pytest.raises(openai.BadRequestError, match="best_of"):
        complete(client, best_of=3, stream=True)
