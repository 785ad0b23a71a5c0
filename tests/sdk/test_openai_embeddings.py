"""The official OpenAI client on embeddings."""

import base64
import struct

import openai
import pytest

NEAR = ["The cat sat on the mat.", "The cat sat on a mat."]
FAR = "Neural processing units of Rockchip boards"


def embed(client, text, **fields):
    return client.embeddings.create(**{"model": "demo", "input": text, **fields})


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_near_texts_are_nearer(client):
    answer = embed(client, [*NEAR, FAR])
    assert [item.index for item in answer.data] == [0, 1, 2]
    first, second, far = (item.embedding for item in answer.data)
    assert dot(first, first) == pytest.approx(1, abs=1e-5)
    assert dot(first, second) > dot(first, far) + 0.2
    assert answer.model == "demo" and answer.object == "list"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 20


def test_the_formats_say_the_same(client):
    """Where its caller names no format the client asks for base64 and decodes it."""
    unsaid = embed(client, FAR).data[0].embedding
    assert unsaid == pytest.approx(embed(client, FAR, encoding_format="float").data[0].embedding)
    text = embed(client, FAR, encoding_format="base64").data[0].embedding
    assert list(struct.unpack(f"<{len(unsaid)}f", base64.b64decode(text))) == unsaid


def test_dimensions_are_the_first_ones(client):
    whole = embed(client, FAR).data[0].embedding
    few = embed(client, FAR, dimensions=8).data[0].embedding
    length = dot(whole[:8], whole[:8]) ** 0.5
    assert few == pytest.approx([value / length for value in whole[:8]], abs=1e-6)
    with pytest.raises(openai.BadRequestError) as refused:
        embed(client, FAR, dimensions=len(whole) + 1)
    assert refused.value.param == "dimensions"


def test_many_texts_and_tokens(client):
    texts = [f"text number {number}" for number in range(60)]
    answer = embed(client, texts)
    assert [item.index for item in answer.data] == list(range(60))
    assert answer.data[7].embedding == embed(client, texts[7]).data[0].embedding
    assert len(embed(client, [[105, 110], [120]]).data) == 2


def test_a_text_that_cannot_be_read_is_named(client):
    with pytest.raises(openai.BadRequestError) as refused:
        embed(client, ["fine", "x " * 5000])
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input[1]")
