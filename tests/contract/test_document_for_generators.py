"""Holds: rest.schema, rest.schema_texts, configurations.schema, gateway_admin.openapi, gateway_admin.openapi_examples

The OpenAPI document can be read by people and by generators of clients: everything has a name, a text and an example.
"""

import json
import re
from typing import Any

import jsonschema_rs
import pytest

from gateway_admin.openapi_examples import ANSWERS, REQUESTS
from rest.documents import document

DOCUMENT = document()
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = {operation["operationId"]: operation for item in DOCUMENT["paths"].values() for operation in item.values()}
PUBLIC = {"getHealth", "getReadiness"}
JSON = "application/json"


def nodes(node: Any, path: str = ""):
    """Every JSON object below a node, with its path."""
    if isinstance(node, dict):
        yield path, node
        for name, inner in node.items():
            yield from nodes(inner, f"{path}/{name}")
    elif isinstance(node, list):
        for place, inner in enumerate(node):
            yield from nodes(inner, f"{path}/{place}")


def schemas():
    """Every schema that is an object, with its path."""
    for path, node in nodes(DOCUMENT):
        if node.get("type") in ("object", ["object", "null"]) and "/examples/" not in path:
            yield path, node


def bodies():
    """Every JSON body of a request or an answer: (operation ID, status or 0, media type)."""
    for name, operation in OPERATIONS.items():
        if "requestBody" in operation:
            yield name, 0, operation["requestBody"]["content"][JSON]
        for status, answer in operation["responses"].items():
            if JSON in answer.get("content", {}):
                yield name, int(status), answer["content"][JSON]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that stands for itself, with all components beside it."""
    return {"components": {"schemas": SCHEMAS}, **schema}


def test_the_document_says_who_keeps_it_where_it_is_served_and_under_which_licence():
    assert DOCUMENT["info"]["contact"]["name"]
    assert DOCUMENT["info"]["license"]["identifier"] == "Apache-2.0"
    assert DOCUMENT["info"]["description"]
    assert [server["url"] for server in DOCUMENT["servers"]] == ["http://127.0.0.1:8000"]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_has_an_id_of_a_verb_and_a_noun_a_summary_and_a_description(name):
    operation = OPERATIONS[name]

    assert re.fullmatch(r"(get|list|create|update|delete|rotate|explain|start)([A-Z][a-z]+)+", name)
    assert re.fullmatch(r"[A-Z][A-Za-z ]+", operation["summary"])
    assert operation["description"].endswith(".")
    assert operation["summary"].replace(" ", "").lower() == name.lower()


def test_every_tag_of_an_operation_is_declared_with_a_description_and_no_other_is():
    declared = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}

    assert set(declared) == {tag for operation in OPERATIONS.values() for tag in operation["tags"]}
    assert all(text.endswith(".") for text in declared.values())


def test_an_api_key_is_asked_for_in_one_place_and_only_the_probes_need_none():
    assert DOCUMENT["security"] == [{"apiKey": []}]
    assert {name for name, operation in OPERATIONS.items() if "security" in operation} == PUBLIC
    assert all(OPERATIONS[name]["security"] == [] for name in PUBLIC)


def test_every_object_is_a_component_so_that_generators_know_its_name():
    unnamed = [
        path
        for path, node in schemas()
        if "properties" in node and not re.fullmatch(r"/components/schemas/[A-Za-z]+", path)
    ]

    assert unnamed == []


def test_no_schema_makes_an_empty_class_or_a_type_that_is_only_null():
    unions = [
        path
        for path, node in nodes(DOCUMENT)
        for union in (node.get("anyOf"), node.get("oneOf"), node.get("allOf"))
        if isinstance(union, list) and not all({"$ref", "type"} & set(branch) for branch in union)
    ]
    lone_nulls = [path for path, node in nodes(DOCUMENT) if node.get("type") == "null" and "oneOf" not in path]

    assert unions == []
    assert lone_nulls == []


def test_no_component_has_the_name_of_a_generator_s_own_class():
    assert set(SCHEMAS).isdisjoint({"Configuration", "ApiClient", "ApiException", "ApiResponse", "Model", "Object"})


def test_every_component_and_every_property_has_a_description():
    texts = {name: schema.get("description", "") for name, schema in SCHEMAS.items()} | {
        f"{name}.{field}": fact.get("description", "")
        for name, schema in SCHEMAS.items()
        for field, fact in schema.get("properties", {}).items()
        if "$ref" not in fact
    }

    assert [name for name, text in texts.items() if not text.endswith(".")] == []


def test_every_parameter_and_header_has_a_description():
    facts = {
        f"{name} {parameter['name']}": parameter
        for name, operation in OPERATIONS.items()
        for parameter in operation.get("parameters", ())
    } | {
        f"{path}/{header}": fact
        for path, node in nodes(DOCUMENT)
        for header, fact in node.get("headers", {}).items()
        if isinstance(fact, dict) and "schema" in fact
    }

    assert [name for name, fact in facts.items() if not fact.get("description", "").endswith(".")] == []


@pytest.mark.parametrize(("name", "status"), sorted((name, status) for name, status, _ in bodies()))
def test_a_body_has_an_example_that_its_schema_takes(name, status):
    media = next(media for one, other, media in bodies() if (one, other) == (name, status))

    assert "example" in media
    jsonschema_rs.Draft202012Validator(resolved(media["schema"]), validate_formats=True).validate(media["example"])


@pytest.mark.django_db
def test_the_examples_can_be_sent_one_after_the_other_and_are_answered_in_the_form_that_they_show(api):
    made: dict[str, str] = {}

    def send(method: str, name: str, path: str, status: int = 200) -> dict[str, Any]:
        body = json.dumps(REQUESTS[name])
        for shown, real in made.items():
            body = body.replace(shown, real)
        answer = api.request(method, path, json.loads(body))
        assert answer.status_code == status, (name, answer.content)
        assert set(answer.json()) == set(ANSWERS[name]) | ({"description"} & set(answer.json())), name
        made[ANSWERS[name].get("id", name)] = answer.json().get("id", "")
        return dict(answer.json())

    for name, path in {
        "createProvider": "providers",
        "createProviderKey": "provider-keys",
        "createConfiguration": "access-key-configurations",
        "createAccessKey": "access-keys",
        "createApiKey": "api-keys",
    }.items():
        found = send("POST", name, path, 201)
        if name == "createProviderKey":
            send("POST", "rotateProviderKey", f"{path}/{found['id']}/rotate")
        send("PATCH", name.replace("create", "update"), f"{path}/{found['id']}")
        if name == "createAccessKey":
            send("POST", "explainAccessKey", f"{path}/{found['id']}/explain")
    refused = send("POST", "explainConfiguration", "access-key-configurations/explain")
    assert refused == ANSWERS["explainConfiguration"]
    send("PATCH", "updateGatewayConfiguration", "gateway-config")
