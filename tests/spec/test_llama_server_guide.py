"""The guide to llama-server: each request of it, in our own words, and its other routes.

`compat/COVERAGE.md` says which section is held by which test.
"""

import json

import httpx

URL = "http://localhost:11434"


def test_a_completion(curl):
    body = {"prompt": "The river", "max_tokens": 128, "temperature": 0.7}
    answer = json.loads(curl(f"{URL}/v1/completions", body))
    assert answer["choices"][0]["text"] == " runs to the sea."
    body = {"prompt": "The river", "max_tokens": 50, "top_p": 0.9, "stop": ["\n"]}
    answer = json.loads(curl(f"{URL}/v1/completions", body))
    assert answer["object"] == "text_completion" and answer["usage"]["total_tokens"] > 2


def test_a_completion_in_events(curl):
    text = curl(f"{URL}/v1/completions", {"prompt": "The river", "max_tokens": 100, "stream": True})
    data = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert data[-1] == "[DONE]"
    said = "".join(json.loads(piece)["choices"][0]["text"] for piece in data[:-1])
    assert said == " runs to the sea."


def test_a_chat_with_instructions(curl):
    messages = [
        {"role": "system", "content": "You know towns."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    body = {"messages": messages, "max_tokens": 100, "temperature": 0.8}
    answer = json.loads(curl(f"{URL}/v1/chat/completions", body))
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert {"cache_n", "prompt_n", "prompt_ms", "predicted_n", "predicted_per_second"} <= set(
        answer["timings"]
    )


def test_health(curl):
    assert json.loads(curl(f"{URL}/health"))["status"] == "ok"
    assert json.loads(curl(f"{URL}/v1/health")) == {"status": "ok"}


def test_properties(curl):
    props = json.loads(curl(f"{URL}/props"))
    assert props["default_generation_settings"]["n_ctx"] == 4096
    assert props["total_slots"] == 1 and props["model_alias"] == "demo"
    assert "{%" in props["chat_template"] and props["chat_template_caps"]["supports_tools"]
    assert props["modalities"] == {"vision": False, "video": False, "audio": False}
    json.loads(curl(f"{URL}/v1/completions", {"prompt": "The river"}))
    (slot,) = json.loads(curl(f"{URL}/slots"))
    assert (slot["id"], slot["n_ctx"], slot["is_processing"]) == (0, 4096, False)


def test_metrics(curl):
    assert "llamacpp:tokens_predicted_total" in curl(f"{URL}/metrics")


def test_llama_servers_own_completion(curl):
    body = {"prompt": "The river", "n_predict": 64, "temperature": 0, "stop": ["sea"]}
    answer = json.loads(curl(f"{URL}/completion", body))
    assert (answer["content"], answer["stop"]) == (" runs to the ", True)
    assert (answer["stop_type"], answer["stopping_word"]) == ("word", "sea")
    assert answer["generation_settings"]["temperature"] == 0 and answer["truncated"] is False
    assert answer["timings"]["predicted_n"] == answer["tokens_predicted"]
    text = curl(f"{URL}/completion", {"prompt": "The river", "n_predict": 3, "stream": True})
    pieces = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
    assert [piece["stop"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1]["stop_type"] == "limit" and pieces[-1]["content"] == ""


def test_tokens_both_ways(curl):
    text = "The river runs to the sea."
    tokens = json.loads(curl(f"{URL}/tokenize", {"content": text}))["tokens"]
    assert json.loads(curl(f"{URL}/detokenize", {"tokens": tokens}))["content"] == text
    pieces = json.loads(curl(f"{URL}/tokenize", {"content": text, "with_pieces": True}))["tokens"]
    assert [piece["id"] for piece in pieces] == tokens
    assert "".join(piece["piece"] for piece in pieces) == text
    # vLLM's way.
    answer = json.loads(curl(f"{URL}/tokenize", {"model": "demo", "prompt": text}))
    assert answer["count"] == len(answer["tokens"]) >= len(tokens) and answer["max_model_len"] == 4096
    messages = [{"role": "user", "content": "Say hi"}]
    prompt = json.loads(curl(f"{URL}/apply-template", {"messages": messages}))["prompt"]
    assert prompt == "<|im_start|>user\nSay hi<|im_end|>\n<|im_start|>assistant\n"
    whole = json.loads(curl(f"{URL}/tokenize", {"messages": messages}))["tokens"]
    assert json.loads(curl(f"{URL}/detokenize", {"tokens": whole}))["prompt"].startswith(prompt)


def test_its_vectors(curl):
    vectors = json.loads(curl(f"{URL}/embedding", {"content": ["a", "b"]}))
    assert [item["index"] for item in vectors] == [0, 1]
    assert all(len(item["embedding"]) == 1 and item["embedding"][0] for item in vectors)


def test_its_errors(server):
    for path, body, status, kind in [
        ("/completion", {}, 400, "invalid_request_error"),
        ("/completion", {"prompt": "a", "grammar": "root ::= x"}, 400, "invalid_request_error"),
        ("/tokenize", {"content": 3}, 400, "invalid_request_error"),
        ("/detokenize", {"tokens": [10**8]}, 400, "invalid_request_error"),
        ("/infill", {"input_prefix": "a", "input_suffix": "b"}, 501, "not_supported_error"),
    ]:
        answer = httpx.post(f"{URL}{path}", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (status, status, kind), path
