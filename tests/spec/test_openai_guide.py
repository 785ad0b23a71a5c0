"""The guide to servers that speak OpenAI's language: each request of it, in our own words.

`openapi/coverage.md` says which section is held by which test.
"""

import json
import pathlib
import subprocess

import openai
import pytest

from conftest import PORTS

NODE_PACKAGES = pathlib.Path(__file__).parents[1] / "sdk" / "node"
# A name that programs have built in; the model that is there answers.
MODEL = "gpt-3.5-turbo"
FRANCE = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
COUNT = [{"role": "user", "content": "Count from 1 to 10, please."}]
COUNTED = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"


def function(name, description, properties, required):
    parameters = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


UNIT = {"type": "string", "enum": ["celsius", "fahrenheit"]}
WEATHER_NOW = function(
    "get_current_weather", "The weather at a place, now.",
    {"location": {"type": "string", "description": "City and state"}, "unit": UNIT}, ["location"],
)
STOCK = function(
    "get_stock_price", "What a share costs now.",
    {"ticker": {"type": "string", "description": "The symbol of the share"}}, ["ticker"],
)
WEATHER = function(
    "get_weather", "The weather at a place.",
    {"location": {"type": "string", "description": "City"}, "unit": UNIT}, ["location"],
)
CALCULATE = function("calculate", "Do sums.", {"expr": {"type": "string"}}, ["expr"])


# Supported endpoints, base URLs


@pytest.mark.parametrize("port", PORTS)
def test_every_base_url(server, port):
    base_url = f"http://localhost:{port}/v1"
    with openai.OpenAI(base_url=base_url, api_key="not-needed", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["demo"]
        answer = client.chat.completions.create(model=MODEL, messages=FRANCE)
        assert answer.choices[0].message.content == "The capital of France is Paris."


def test_completions(client, curl):
    answer = client.completions.create(model=MODEL, prompt="The river")
    assert answer.choices[0].text == " runs to the sea."
    body = {"model": MODEL, "prompt": "The river"}
    answer = json.loads(curl("http://localhost:8000/v1/completions", body))
    assert answer["choices"][0]["text"] == " runs to the sea."


# Basic chat completion


def test_a_chat_with_curl(curl):
    body = {"model": MODEL, "messages": FRANCE, "temperature": 0.7, "max_tokens": 100}
    answer = json.loads(curl("http://localhost:8000/v1/chat/completions", body))
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert answer["model"] == MODEL


def test_a_chat_with_python(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=FRANCE, temperature=0.7, max_tokens=100
    )
    assert answer.choices[0].message.content == "The capital of France is Paris."


def test_a_chat_with_javascript(server):
    program = f"""
        import OpenAI from 'openai';
        const client = new OpenAI({{ baseURL: 'http://localhost:8000/v1', apiKey: 'not-needed' }});
        const answer = await client.chat.completions.create({{
          model: '{MODEL}', messages: {json.dumps(FRANCE)}, temperature: 0.7, max_tokens: 100,
        }});
        console.log(answer.choices[0].message.content);
    """
    # Where the packages are looked for is the working directory.
    done = subprocess.run(
        ["node", "--input-type=module", "-"], input=program, cwd=NODE_PACKAGES,
        capture_output=True, text=True, check=False, timeout=60,
    )
    assert done.stdout.strip() == "The capital of France is Paris.", done.stderr


# Streaming chat


def test_a_stream_with_python(client):
    stream = client.chat.completions.create(model=MODEL, messages=COUNT, stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content]
    assert len(pieces) > 5
    assert "".join(pieces) == COUNTED


def test_a_stream_with_curl(curl):
    body = {"model": MODEL, "messages": COUNT, "stream": True}
    printed = curl("http://localhost:8000/v1/chat/completions", body)
    *chunks, end = [line.removeprefix("data: ") for line in printed.split("\n\n") if line]
    assert end == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == COUNTED


# Tool calling


@pytest.mark.parametrize("port", [8000, 11434])
def test_tools_with_python(server, port):
    question = {"role": "user", "content": "The weather in San Francisco and the stock price of Apple?"}
    base_url = f"http://localhost:{port}/v1"
    with openai.OpenAI(base_url=base_url, api_key="not-needed", max_retries=0) as client:
        fields = {"model": MODEL, "tools": [WEATHER_NOW, STOCK], "tool_choice": "auto"}
        message = client.chat.completions.create(messages=[question], **fields).choices[0].message
        calls = {
            call.function.name: json.loads(call.function.arguments) for call in message.tool_calls
        }
        assert calls == {
            "get_current_weather": {"location": "San Francisco, CA", "unit": "celsius"},
            "get_stock_price": {"ticker": "AAPL"},
        }
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": "18"}
            for call in message.tool_calls
        ]
        final = client.chat.completions.create(messages=[question, message, *results], **fields)
    assert final.choices[0].message.content.startswith("It is 18 degrees in San Francisco")


def test_a_tool_with_curl(curl):
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the weather in Tokyo?"}],
        "tools": [WEATHER],
        "tool_choice": "auto",
    }
    answer = json.loads(curl("http://localhost:8000/v1/chat/completions", body))
    [choice] = answer["choices"]
    [call] = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"location": "Tokyo"}


# JSON mode


def test_json_mode_with_python(client):
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "You are a helpful assistant that writes JSON."},
            {"role": "user", "content": "Name three scientists with their fields."},
        ],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


# Embeddings

EMBEDDER = "text-embedding-ada-002"


def test_embeddings_with_python(client):
    single = client.embeddings.create(model=EMBEDDER, input="Hello, world!")
    width = len(single.data[0].embedding)
    assert width > 1 and all(isinstance(value, float) for value in single.data[0].embedding[:5])
    texts = ["Hello world", "Goodbye world", "Some embeddings"]
    several = client.embeddings.create(model=EMBEDDER, input=texts)
    assert [(item.index, len(item.embedding)) for item in several.data] == [
        (index, width) for index in range(3)
    ]


def test_an_embedding_with_curl(curl):
    body = {"model": EMBEDDER, "input": "A quick brown fox jumps over a lazy dog"}
    answer = json.loads(curl("http://localhost:8000/v1/embeddings", body))
    assert answer["model"] == EMBEDDER and answer["usage"]["prompt_tokens"] > 0
    assert isinstance(answer["data"][0]["embedding"][0], float)


# List models


def test_models_with_python(client):
    assert [model.id for model in client.models.list().data] == ["demo"]


def test_models_with_curl(curl):
    listed = json.loads(curl("http://localhost:8000/v1/models"))
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["demo"]


# Feature comparison


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0},
        {"temperature": 2.0},
        {"top_p": 0.5},
        {"frequency_penalty": 1.0},
        {"presence_penalty": 1.0},
        {"stop": ["never said"]},
        {"max_tokens": 50},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_every_parameter_is_taken(client, fields):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=COUNT, **fields)
    assert "x-rkllama-ignored" not in raw.headers
    assert raw.parse().choices[0].message.content == COUNTED


def test_stop_and_max_tokens_end_an_answer(client):
    cut = client.chat.completions.create(model=MODEL, messages=COUNT, stop=["5"])
    assert cut.choices[0].message.content == "1, 2, 3, 4, "
    short = client.chat.completions.create(model=MODEL, messages=COUNT, max_tokens=3)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 3)


def test_several_answers(client):
    answer = client.chat.completions.create(model=MODEL, messages=COUNT, n=2)
    assert [choice.message.content for choice in answer.choices] == [COUNTED] * 2


def test_how_likely_the_tokens_were(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=COUNT, logprobs=True, top_logprobs=2
    )
    told = answer.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in told).decode() == COUNTED
    assert all(len(token.top_logprobs) == 2 for token in told)


# Troubleshooting


def test_whether_a_model_knows_tools(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "What is 2 + 2?"}], tools=[CALCULATE]
    )
    [call] = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("calculate", {"expr": "2+2"})


def test_the_health_page_with_curl(curl):
    assert json.loads(curl("http://localhost:8000/health"))["status"] == "ok"


def test_json_mode_when_it_is_asked_for_in_words(client):
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Answer in valid JSON."},
            {"role": "user", "content": "Name three colors."},
        ],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_ollamas_version_with_curl(curl):
    assert json.loads(curl("http://localhost:11434/api/version"))["version"].count(".") == 2
