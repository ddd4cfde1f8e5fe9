"""Derive the OpenAPI document from the views. The parts that all operations share are written here once.

Source: docs/decisions/0025-openapi.md.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import uritemplate
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema

from gateway_core import ids
from rest import errors
from rest.fields import IdField, StrictCharField, id_pattern
from rest.pagination import MAX_LIMIT
from rest.propagation import MOST_SECONDS, MOST_WAITERS, UNASKED_SECONDS
from rest.schema_texts import SHARED
from rest.serializers import ShownSerializer, StrictSerializer

_CONTROL: Final = r"\u0000-\u001f\u007f-\u009f"
# Tab and newline are allowed in longer texts.
_CONTROL_MULTILINE: Final = r"\u0000-\u0008\u000b-\u001f\u007f-\u009f"

_VERBS: Final = {"list": "list", "retrieve": "get", "create": "create", "partial_update": "update", "destroy": "delete"}
# The actions that a client may call next on an object that it has created; each becomes a link of the 201.
_NEXT: Final = ("retrieve", "partial_update", "rotate", "destroy")
_ERRORS_EVERYWHERE: Final = (400, 405, 429, 500, 503)
_ERRORS_OF_WRITES: Final = (409, 413, 415, 422)

_URI: Final = {"type": "string", "format": "uri"}
_ETAG_HEADER: Final = {
    "description": "The object's state, for If-Match.",
    "required": True,
    "schema": {"type": "string", "pattern": '^"[0-9a-f]{32}"$'},
}
_LOCATION_HEADER: Final = {"description": "The new object's URI.", "required": True, "schema": _URI}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "description": "Write only if the object still has this ETag, or one of a list of ETags, or *; 412 otherwise.",
    "schema": {"type": "string", "pattern": r'^(\*|"[!#-~]*")$'},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A request that is repeated with the same key within 24 hours gets the same answer and has no "
    "second effect.",
    "schema": {"type": "string", "pattern": "^[!#-~]([ !#-~]{0,253}[!#-~])?$"},
}
_REPLAYED: Final = {
    "description": "The answer is that to an earlier request with this Idempotency-Key. Left out otherwise.",
    "schema": {"type": "string", "const": "true"},
}
_PREFER: Final = {
    "name": "Prefer",
    "in": "header",
    "description": f"wait=N: wait up to N seconds, {MOST_SECONDS} at most, until every worker has applied the write. "
    "Deleting or disabling an access key, and rotating a provider key, wait up to "
    f"{UNASKED_SECONDS} s by default; wait=0 switches that off (RFC 7240; a malformed preference is ignored).",
    "schema": {"type": "string"},
}
_SNAPSHOT_HEADERS: Final = {
    "Gateway-Snapshot-Version": {
        "description": "The lowest version of the account's snapshot that contains this write. It is the version of "
        "the publication; the next version if the relay will publish; the current one if nothing had to be published.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "Gateway-Snapshot-Applied": {
        "description": "After a wait: the number of worker processes that have applied the write, and the number of "
        "all workers in the count (GET /data-plane/workers). It is left out if the request did not wait, if "
        f"{MOST_WAITERS} requests of the process were waiting already, or if Redis did not answer.",
        "schema": {"type": "string", "pattern": "^[0-9]+/[0-9]+$"},
    },
    "Preference-Applied": {
        "description": "wait=N: the limit in seconds that this request asked for and that was applied.",
        "schema": {"type": "string", "pattern": f"^wait=({'|'.join(map(str, range(MOST_SECONDS + 1)))})$"},
    },
}
_LIMIT: Final = {
    "name": "limit",
    "in": "query",
    "description": "The largest number of items in a page.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": MAX_LIMIT},
}
_ERROR: Final = {
    "type": "object",
    "description": "Every error has this form; docs/errors.md lists the codes.",
    "properties": {
        "errorCode": {"type": "string", "pattern": "^[a-z][a-z_]*$", "description": "For programs; never changes."},
        "statusCode": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
        "msg": {"type": "string", "minLength": 1, "description": "For people."},
        "details": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "A text for each faulty JSON path of the request.",
        },
    },
    "required": ["errorCode", "statusCode", "msg", "details"],
    "additionalProperties": False,
}
_RETRY_AFTER: Final = {
    "description": "The seconds after which another try may succeed.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"},
}
_ERROR_HEADERS: Final[Mapping[int, dict[str, Any]]] = {
    401: {
        "WWW-Authenticate": {
            "description": "How to authenticate.",
            "required": True,
            "schema": {"type": "string", "const": "Bearer"},
        }
    },
    405: {"Allow": {"description": "The methods that the path takes.", "required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}


class ContractSchema(AutoSchema):
    """One operation, with what every operation of this API shares (contract, section 1)."""

    # One of RestViews; the stubs know only DRF's.
    view: Any

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """As DRF Spectacular, with our errors, headers and links."""
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        if not self._is_protected:
            operation["security"] = []
        for status, response in operation["responses"].items():
            response["description"] = _DESCRIPTIONS[int(status)]
            if self._shows_object:
                response["headers"] = {"ETag": _ETAG_HEADER}
            if status == "201":
                response["headers"] = {"Location": _LOCATION_HEADER, **response["headers"]}
                response["links"] = self._links()
            if self._is_write:
                response["headers"] = {**response.get("headers", {}), **_SNAPSHOT_HEADERS}
            if self.method in {"POST", "PATCH"}:
                response["headers"] = {**response.get("headers", {}), "Idempotent-Replayed": _REPLAYED}
        if "requestBody" in operation:
            # A body is required even if none of its fields is.
            operation["requestBody"]["required"] = True
        for status in self._error_statuses():
            operation["responses"][str(status)] = {"$ref": f"#/components/responses/{_BRANCHES[status].__name__}"}
        return operation

    @property
    def _is_protected(self) -> bool:
        return bool(self.view.permission_classes)

    @property
    def _is_write(self) -> bool:
        return self._is_protected and self.method != "GET" and self.view.action not in self.view.questions

    @property
    def _shows_object(self) -> bool:
        # Only an object with a URI has an ETag.
        shape = self._shape
        return self.view.action not in {"list", "destroy"} and shape is not None and "uri" in shape().fields

    @property
    def _shape(self) -> type[ShownSerializer] | None:
        return self.view.shapes.get(self.view.action) or getattr(self.view, "shape", None)

    @property
    def _has_id(self) -> bool:
        return "{" in self.path

    def _error_statuses(self) -> list[int]:
        statuses = set(_ERRORS_EVERYWHERE)
        if self._is_protected:
            statuses.add(401)
        if self._has_id:
            statuses.add(404)
        if self.method in {"POST", "PATCH"}:
            statuses.update(_ERRORS_OF_WRITES)
        if self._takes_if_match:
            statuses.add(412)
        if self.method == "DELETE":
            statuses.add(409)
        return sorted(statuses)

    @property
    def _takes_if_match(self) -> bool:
        return self.method in {"PATCH", "DELETE"} or self.view.action == "rotate"

    def _links(self) -> dict[str, Any]:
        view = type(self.view)
        return {
            operation_id(view, action): {
                "operationId": operation_id(view, action),
                "parameters": {"id": "$response.body#/id"},
            }
            for action in _NEXT
            if hasattr(view, action)
        }

    def get_operation_id(self) -> str:
        """The operation's ID, for example `listAccessKeys`."""
        return operation_id(type(self.view), self.view.action)

    def get_summary(self) -> str:
        """The operation's ID in words, for example `List access keys`."""
        words = re.sub("([A-Z])", r" \1", self.get_operation_id()).lower().replace(" api ", " API ")
        return words[0].upper() + words[1:]

    def get_tags(self) -> list[str]:
        """The resource's path as the only tag, for example `access-keys`."""
        return [self.path.strip("/").partition("/")[0]]

    def get_auth(self) -> list[dict[str, Any]]:
        """Nothing: the document asks for an API key in one place, and `get_operation` excepts public operations."""
        return []

    def get_request_serializer(self) -> StrictSerializer | None:
        """The form that the view names for this action."""
        form = self.view.forms.get(self.view.action)
        return form(partial=self.method == "PATCH") if form else None

    def get_response_serializers(self) -> Any:
        """The shape of the action's answer, by status."""
        action = self.view.action
        if action == "destroy":
            return {"204": None}
        if action == "list" and self._shape is not None:
            item = self.resolve_serializer(self._shape, "response")
            return {"200": self._list_schema(item.ref, title=f"{item.name}Page")}
        return {"201" if action == "create" else "200": self._shape}

    def _list_schema(self, item: dict[str, Any], *, title: str) -> dict[str, Any]:
        key, order = self.view.list_key, getattr(self.view, "list_order", "Newest first.")
        return {
            "type": "object",
            "title": title,
            "description": "A page of a list.",
            "properties": {
                key: {"type": "array", "items": item, "maxItems": MAX_LIMIT, "description": order},
                "uri": {**_URI, "description": "The URI of this request."},
                "nextPageUri": {
                    "type": ["string", "null"],
                    "format": "uri",
                    "description": "The URI of the next page; null on the last page.",
                },
            },
            "required": [key, "uri", "nextPageUri"],
            "additionalProperties": False,
        }

    def _is_list_view(self, serializer: Any = None) -> bool:
        # A list's answer is an object (`_list_schema`), so DRF Spectacular must not wrap it in an array.
        del serializer
        return False

    def _get_parameters(self) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = []
        model = getattr(self.view, "model", None)
        for name in uritemplate.variables(self.path):
            schema = _id_schema(model.id_prefix) if name == "id" and model is not None else {"type": "string"}
            told = {"description": "The ID of the object.", "required": True, "schema": schema}
            parameters.append({"name": name, "in": "path", **told})
        if self.view.action == "list":
            parameters.append(_LIMIT)
            if model is not None:
                before = {"description": "Show only items before this one. It may have been deleted."}
                parameters.append({"name": "beforeId", "in": "query", **before, "schema": _id_schema(model.id_prefix)})
            parameters += ({"name": name, "in": "query", **facts} for name, facts in self.view.filters.items())
        if self.method in {"POST", "PATCH"}:
            parameters.append(_IDEMPOTENCY_KEY)
        if self._takes_if_match:
            parameters.append(_IF_MATCH)
        if self._is_write:
            parameters.append(_PREFER)
        return parameters


def operation_id(view: type[Any], action: str) -> str:
    """The ID of an operation: its verb and its noun, for example `listAccessKeys`."""
    noun = view.__name__.removesuffix("Views")
    return f"{_VERBS.get(action, action)}{noun}{'s' if action == 'list' else ''}"


class TextExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The schema of rest.fields' texts: no control characters, and not blank if they are required."""

    target_class = "rest.fields.StrictCharField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        """The JSON Schema of the text."""
        del auto_schema, direction
        field: StrictCharField = self.target
        refused = _CONTROL_MULTILINE if field.multiline else _CONTROL
        any_text = f"[^{refused}]*"
        if field.required and not field.allow_blank:
            return {"type": "string", "minLength": 1, "pattern": rf"^{any_text}[^\s{refused}]{any_text}$"}
        return {"type": "string", "pattern": f"^{any_text}$"}


class IdExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The schema of an ID in a request."""

    target_class = "rest.fields.IdField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        """The JSON Schema of the ID."""
        del auto_schema, direction
        field: IdField = self.target
        return _id_schema(field.prefix)


def complete_document(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the shared parts: error answers, the security scheme, and `additionalProperties: false` of objects."""
    _drop_marks(result)
    components: dict[str, Any] = result.setdefault("components", {})
    named: dict[str, Any] = {}
    result["paths"] = _name_titled(result["paths"], named)
    schemas: dict[str, Any] = _name_titled(components.setdefault("schemas", {}), named)
    if twice := set(named) & set(schemas):
        raise ValueError(f"Two schemas have one name: {', '.join(sorted(twice))}.")
    components["schemas"] = schemas = dict(sorted({**schemas, **named}.items()))
    for schema in schemas.values():
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
            for name, field in schema["properties"].items():
                if name in SHARED and "$ref" not in field:
                    field.setdefault("description", SHARED[name])
    schemas["Error"] = _ERROR
    components["responses"] = {
        branch.__name__: {
            "description": branch.message(),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            **({"headers": _ERROR_HEADERS[status]} if status in _ERROR_HEADERS else {}),
        }
        for status, branch in sorted(_BRANCHES.items())
    }
    components["securitySchemes"] = {
        "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key of the account (`gwa_…`)."}
    }
    result["security"] = [{"apiKey": []}]
    return result


def _name_titled(node: Any, schemas: dict[str, Any]) -> Any:
    """Move each schema that has a title to the components of that name, and leave a reference in its place.

    Generators name their classes after components; a schema without a name gets one from its place.
    """
    if isinstance(node, list):
        return [_name_titled(inner, schemas) for inner in node]
    if not isinstance(node, dict):
        return node
    found = {name: _name_titled(inner, schemas) for name, inner in node.items()}
    # A property that is called `title` is not a title.
    if not isinstance(found.get("title"), str):
        return found
    title = found.pop("title")
    reference = {"$ref": f"#/components/schemas/{title}"}
    may_be_null = isinstance(found["type"], list)
    if may_be_null:
        found["type"] = next(kind for kind in found["type"] if kind != "null")
    if schemas.setdefault(title, found) != found:
        raise ValueError(f"Two schemas have the title {title}.")
    return {"oneOf": [reference, {"type": "null"}]} if may_be_null else reference


def _drop_marks(node: Any) -> None:
    # Marks of DRF Spectacular for a hook that we do not use: our enumerations stay inline.
    if isinstance(node, dict):
        node.pop("x-spec-enum-id", None)
        for inner in node.values():
            _drop_marks(inner)
    elif isinstance(node, list):
        for inner in node:
            _drop_marks(inner)


def _id_schema(prefix: ids.Prefix) -> dict[str, Any]:
    return {"type": "string", "pattern": id_pattern(prefix)}


_BRANCHES: Final = {status: branch for branch, status in errors.statuses().items() if branch is not errors.Forbidden}
_DESCRIPTIONS: Final = {200: "Done.", 201: "Made.", 204: "Deleted."}
