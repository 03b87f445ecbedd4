"""Requests made from the OpenAPI page, right and wrong ones: never a 5xx, always as the page says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from adray.serving import edge
from adray.serving.front import openapi_document

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


SCHEMA = schemathesis.openapi.from_dict(openapi_document(key_asked=False))
OPERATIONS = [(operation.path, "POST") for operation in edge.OPERATIONS] + [("/healthz", "GET")]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_as_described(app, path, method, mode):
    if method == "GET" and mode is GenerationMode.NEGATIVE:
        pytest.skip("takes nothing that could be wrong")

    @given(case=SCHEMA[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    def ask(case):
        case.call_and_validate(base_url=app.url, checks=CHECKS)

    ask()
