"""The metrics, read with Prometheus' own parser: their form, and that they count what was asked."""

import urllib.request

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

QUESTION = [{"role": "user", "content": "What is an NPU?"}]


class Scrape:
    def __init__(self, server):
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as response:
            self.content_type = response.headers["content-type"]
            text = response.read().decode()
        self.families = list(text_string_to_metric_families(text))
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }
        assert sum(len(f.samples) for f in self.families) == len(self.samples), "a series is double"

    def value(self, name, **labels):
        return self.samples.get((name, frozenset(labels.items())), 0)


def test_the_format_is_prometheus_own(server, client):
    client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=3)
    scrape = Scrape(server)
    assert scrape.content_type == "text/plain; version=0.0.4"
    types = {family.name: family.type for family in scrape.families}
    for name, kind in {
        "llamacpp:prompt_tokens": "counter",
        "llamacpp:requests_processing": "gauge",
        "vllm:num_requests_waiting": "gauge",
        "vllm:time_to_first_token_seconds": "histogram",
        "rkllama_queue_position": "histogram",
        "rkllama_http_requests": "counter",
        "process_resident_memory_bytes": "gauge",
    }.items():
        assert types.get(name) == kind, name
    for family in scrape.families:
        assert family.documentation, family.name
        assert family.type != "unknown", family.name
        if family.type == "histogram":
            histogram_is_consistent(family)


def histogram_is_consistent(family):
    """Buckets never fall, and the last one holds everything."""
    counts = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        key = frozenset(labels.items())
        if sample.name.endswith("_bucket"):
            counts.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            bounds, values = zip(*counts[key])
            assert list(bounds) == sorted(bounds) and bounds[-1] == float("inf"), family.name
            assert list(values) == sorted(values) and values[-1] == sample.value, family.name


def test_the_counts_are_those_of_what_was_asked(server, client):
    before = Scrape(server)
    answers = [
        client.chat.completions.create(
            model="demo", messages=QUESTION, temperature=0, max_tokens=limit
        )
        for limit in (1, 4, 1000)
    ]
    stream = client.chat.completions.create(
        model="demo", messages=QUESTION, temperature=0, max_tokens=6, stream=True,
        stream_options={"include_usage": True},
    )
    usages = [answer.usage for answer in answers] + [list(stream)[-1].usage]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="absent-5", messages=QUESTION)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "fail at once"}]
        )
    after = Scrape(server)

    def grown(name, **labels):
        return after.value(name, **labels) - before.value(name, **labels)

    prompt = sum(usage.prompt_tokens for usage in usages)
    cached = sum(usage.prompt_tokens_details.cached_tokens for usage in usages)
    completion = sum(usage.completion_tokens for usage in usages)
    demo = {"model_name": "demo"}
    assert grown("vllm:prompt_tokens_total", **demo) == prompt
    assert grown("vllm:generation_tokens_total", **demo) == completion
    assert grown("vllm:prefix_cache_queries_total", **demo) == prompt
    assert grown("vllm:prefix_cache_hits_total", **demo) == cached
    assert grown("llamacpp:prompt_tokens_total") == prompt - cached
    assert grown("llamacpp:prompt_tokens_cached_total") == cached
    assert grown("llamacpp:tokens_predicted_total") == completion
    assert grown("vllm:request_success_total", finished_reason="length", **demo) == 3
    assert grown("vllm:request_success_total", finished_reason="stop", **demo) == 1
    assert grown("rkllama_requests_failed_total", reason="run", **demo) == 1
    assert grown("vllm:e2e_request_latency_seconds_count", **demo) == 4
    assert grown("vllm:time_to_first_token_seconds_count", **demo) == 4
    assert grown("vllm:request_generation_tokens_sum", **demo) == completion
    assert grown("rkllama_queue_position_count", **demo) == 5
    assert after.value("vllm:num_requests_running", **demo) == 0
    assert after.value("vllm:num_requests_waiting", **demo) == 0

    chats = {"method": "POST", "route": "/v1/chat/completions"}
    assert grown("rkllama_http_requests_total", status="200", **chats) == 4
    assert grown("rkllama_http_requests_total", status="404", **chats) == 1
    assert grown("rkllama_http_requests_total", status="500", **chats) == 1


def test_names_that_clients_make_up_are_no_labels(server, client):
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("made-up-name")
    values = {value for _, labels in Scrape(server).samples for _, value in labels}
    assert not any("made-up-name" in value for value in values)
