"""What schemathesis must be told: of server-sent events, which OpenAPI 3.0 has no words for, and of ids.

The document describes a stream as a text. schemathesis would hold each event to that, so it is not
shown the text's schema; in its place each event is held to what the description says.
"""

import itertools
import json
import os
import urllib.error
import urllib.request

import schemathesis
from openapi_schema_validator import OAS30Validator

# Of each route that streams: its media type, what a piece is, and what one is that says what went wrong.
STREAM = "text/event-stream"
LINES = "application/x-ndjson"
PIECES = {
    "/v1/chat/completions": (STREAM, "ChatChunk", "ErrorResponse"),
    "/v1/completions": (STREAM, "CompletionChunk", "ErrorResponse"),
    "/v1/responses": (STREAM, "ResponseEvent", "ErrorResponse"),
    "/v1/messages": (STREAM, "AnthropicEvent", "AnthropicEvent"),
    "/completion": (STREAM, "LlamaCompletion", "LlamaError"),
    "/infill": (STREAM, "LlamaCompletion", "LlamaError"),
    "/api/chat": (LINES, "OllamaChatResponse", "OllamaError"),
    "/api/generate": (LINES, "OllamaGenerateResponse", "OllamaError"),
    "/generate": ("text/plain", "LegacyAnswer", "LegacyError"),
    "/api/pull": (LINES, "OllamaProgress", "OllamaError"),
    "/api/create": (LINES, "OllamaProgress", "OllamaError"),
    "/api/push": (LINES, "OllamaProgress", "OllamaError"),
}

validators = {}


@schemathesis.hook
def before_load_schema(context, raw_schema):
    for name in {name for _, *names in PIECES.values() for name in names}:
        schema = {"$ref": f"#/components/schemas/{name}", "components": raw_schema["components"]}
        validators[name] = OAS30Validator(schema)
    for path, (kind, *_) in PIECES.items():
        content = raw_schema["paths"][path]["post"]["responses"]["200"]["content"]
        (written,) = (name for name in content if name.startswith(kind))
        del content[written]["schema"]


def kept_response():
    """The id of a new response; none from a server that wants a key."""
    request = urllib.request.Request(
        os.environ["SERVER_URL"] + "/v1/responses",
        json.dumps({"model": "demo", "input": "Hi", "max_output_tokens": 16}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["id"]
    except urllib.error.HTTPError:
        return None


turns = itertools.count()


# Where a request names a model that is made, replaced or removed.
CHANGES = {
    "/api/create": ("model", "name"),
    "/api/copy": ("destination",),
    "/api/delete": ("model", "name"),
    "/api/pull": ("as",),
    "/rm": ("model",),
    "/pull": ("model_name",),
}


@schemathesis.hook
def before_call(context, case, kwargs):
    keep_models(case)
    name_responses(case)


def keep_models(case):
    """What other requests need is neither removed nor replaced."""
    if not isinstance(case.body, dict):
        return
    for field in CHANGES.get(case.operation.path, ()):
        if isinstance(case.body.get(field), str) and case.body[field].strip():
            case.body[field] = "made"


def name_responses(case):
    """Every other time the id is one that the server knows: nobody makes it up."""
    if "response_id" not in (case.path_parameters or {}) or not case.meta.generation.mode.is_positive:
        return
    if next(turns) % 2 == 0 and (known := kept_response()):
        case.path_parameters["response_id"] = known


@schemathesis.check
def pieces_are_what_they_are_said_to_be(ctx, response, case):
    """schemathesis reads the beginning of a long stream only, so there may be no end to look at."""
    kind, piece_name, error_name = PIECES.get(case.operation.path, ("none", None, None))
    if not response.headers.get("content-type", [""])[0].startswith(kind):
        return
    *lines, _ = response.content.decode().split("\n")
    if kind == STREAM:
        lines = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    elif kind == LINES:
        assert all(lines), "a blank line"
    pieces = [line for line in lines if line]
    assert pieces, "a stream without a piece"
    for text in pieces[:-1] if pieces[-1] == "[DONE]" else pieces:
        piece = json.loads(text)
        name = error_name if "error" in piece else piece_name
        fault = next(validators[name].iter_errors(piece), None)
        assert fault is None, f"{name}: {fault.message} in {text}"
