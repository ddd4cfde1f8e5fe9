"""Forms of the dashboard, validated by the serializers of the API: the same rules, the same messages.

The fields of a browser become a JSON body of the API, and the API's serializer validates it. A service may refuse it
as well. Every fault is shown at the field that its JSON path names.

```python
form = Form(ApiKeyForm, FIELDS, submitted=request.POST)
with form.faults_shown():
    issued = services.create_api_key(account=…, by=…, **form.values())
    return …
return self.render(form=form, status=form.status)
```
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal

from rest.errors import ROOT, GatewayError, status_of, translate
from rest.preconditions import ANY, IfMatch
from rest.serializers import StrictSerializer

_MOMENT: Final = "%Y-%m-%dT%H:%M"
_INDEX: Final = re.compile(r"\[(\d+)\]")
# A longer number is above every limit, so it is not parsed.
_MOST_DIGITS: Final = 30
# The field of a form that holds the version of the object (rest.preconditions).
ETAG: Final = "etag"


@dataclass(frozen=True)
class Field:
    """One field of a form.

    Args:
        name: its JSON path in the API, under which faults are reported.
        label: the text that users read.
        kind: the control, and its value in JSON. `moment` is a time (typed in the browser's zone, or in UTC without
            scripts), `checkbox` a boolean, `number` an integer, `secret` a text that is never shown again, `lines` an
            array with an object for each line. Every other kind is a text.
        hint: a sentence below the control.
        required: whether it is marked as required; the serializer holds the rule.
        choices: (value, label) of a `choice`.
        placeholder: an example.
        member: for `lines`: the name of the field that holds the text in each object.
    """

    name: str
    label: str
    kind: Literal["text", "textarea", "secret", "moment", "checkbox", "choice", "lines", "number"] = "text"
    hint: str = ""
    required: bool = False
    choices: Sequence[tuple[str, str]] = ()
    placeholder: str = ""
    member: str = ""


@dataclass
class BoundField:
    """A field with its value and its faults."""

    field: Field
    value: Any
    faults: list[str] = dataclasses.field(default_factory=list)

    @property
    def id(self) -> str:
        """The HTML ID of the control, for its label. It may contain the dots and brackets of a JSON path."""
        return f"field-{self.field.name}"

    @property
    def describedby(self) -> str:
        """The HTML IDs of its hint and its faults, for `aria-describedby`."""
        hint = [f"{self.id}-hint"] if self.field.hint or self.field.kind == "moment" else []
        return " ".join([*hint, *([f"{self.id}-fault"] if self.faults else [])])


class Form:
    """A form that the API's serializer validates, and that is shown again with its faults."""

    def __init__(
        self,
        serializer: type[StrictSerializer],
        fields: Sequence[Field],
        *,
        submitted: Mapping[str, str] | None = None,
        present: Mapping[str, Any] | None = None,
        etag: str = "",
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            serializer: the API's serializer for the same write.
            fields: the fields that users may set here.
            submitted: request.POST, or None where the form is shown for the first time.
            present: for an edit: the present values of the object by JSON path. Only changed values are written.
            etag: for an edit: the version of the object that is shown. The form sends it back.
            context: the context of the serializer.
        """
        self._serializer = serializer
        self._present = present
        self._context = dict(context or {})
        self.is_submitted = submitted is not None
        self.etag = etag if submitted is None else submitted.get(ETAG, "")
        self.faults: list[str] = []
        self.details: dict[str, str] = {}
        self.status = 200
        self._fields: dict[str, BoundField] = {}
        for field in fields:
            shown = _shown(field, (present or {}).get(field.name))
            if submitted is not None:
                shown = field.name in submitted if field.kind == "checkbox" else _text(submitted.get(field.name, ""))
            self._fields[field.name] = BoundField(field, shown)

    def __iter__(self) -> Iterator[BoundField]:
        return iter(self._fields.values())

    def __getitem__(self, name: str) -> BoundField:
        return self._fields[name]

    @property
    def if_match(self) -> IfMatch:
        """The version that the user saw when the edit began, for services.

        Raises:
            rest.errors.HeaderInvalid: the form sent back something that is not an ETag.
        """
        return IfMatch.parse(self.etag) if self.etag else ANY

    def wire(self) -> dict[str, Any]:
        """The submitted values as a JSON body of the API: all with a value, or only the changed ones of an edit."""
        body: dict[str, Any] = {}
        for name, bound in self._fields.items():
            if self._present is not None and bound.value == _shown(bound.field, self._present.get(name)):
                continue
            value = _written(bound)
            if value is not None:
                body[name] = value
            elif self._present is not None:
                body[name] = None if not bound.field.required else ""
            elif bound.field.required:
                body[name] = ""
        return body

    def values(self) -> dict[str, Any]:
        """The validated values by Python names, as a service takes them.

        Raises:
            rest_framework.exceptions.ValidationError: with every fault. `faults_shown` puts them to their fields.
        """
        asked = self._serializer(data=self.wire(), partial=self._present is not None, context=self._context)
        asked.is_valid(raise_exception=True)
        return dict(asked.validated_data)

    def faults_shown(self) -> "_FaultsShown":
        """A `with` block whose refusals are shown in this form. Unexpected errors are not caught."""
        return _FaultsShown(self)

    def show(self, error: GatewayError) -> None:
        """Show an error: each detail at the field that its path names, the rest above the form."""
        self.status = status_of(type(error))
        self.details.update(error.details)
        if not error.details:
            self.faults.append(str(error))
        for path, text in error.details.items():
            bound = self._nearest(path)
            if bound is None:
                self.faults.append(text if path == ROOT else f"{path}: {text}")
            elif path == bound.field.name:
                bound.faults.append(text)
            elif bound.field.kind == "lines" and (index := _INDEX.match(path.removeprefix(bound.field.name))):
                bound.faults.append(f"Line {_line_numbers(bound.value)[int(index[1])]}: {text}")
            else:
                bound.faults.append(f"{path}: {text}")

    def _nearest(self, path: str) -> BoundField | None:
        for name, bound in self._fields.items():
            if path == name or path.startswith((f"{name}.", f"{name}[")):
                return bound
        return None


@dataclass
class _FaultsShown:
    form: Form

    def __enter__(self) -> Form:
        return self.form

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        error = translate(exception) if exception is not None else None
        if error is None:
            return False
        self.form.show(error)
        return True


def _text(value: str) -> str:
    # A browser sends the lines of a textarea with CR LF.
    return value.replace("\r\n", "\n")


def _shown(field: Field, value: Any) -> Any:
    """A value of the object in the form in which the field shows it."""
    if field.kind == "checkbox":
        return bool(value)
    if field.kind == "moment":
        return value.astimezone(UTC).strftime(_MOMENT) if isinstance(value, datetime) else ""
    if field.kind == "lines":
        return "\n".join(value or ())
    return "" if value is None else str(value)


def _line_numbers(text: str) -> list[int]:
    """The line numbers, from 1, of the items of a text."""
    return [number for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _written(bound: BoundField) -> Any:
    """The field's value as JSON; None for an empty field."""
    if bound.field.kind == "checkbox":
        return bound.value
    if bound.field.kind == "moment" and bound.value:
        try:
            return datetime.strptime(bound.value, _MOMENT).replace(tzinfo=UTC).isoformat()
        except ValueError:
            return bound.value
    if bound.field.kind == "lines":
        return [{bound.field.member: line.strip()} for line in bound.value.split("\n") if line.strip()] or None
    if bound.field.kind == "number" and bound.value.isascii() and bound.value.isdigit():
        return int(bound.value[:_MOST_DIGITS])
    return bound.value or None
