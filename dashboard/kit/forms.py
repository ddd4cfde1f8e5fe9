"""Forms of the dashboard, on the serializers of the API: the same rules, the same messages.

A browser's fields are put into the form that the wire has, the API's serializer validates them, a service has the last
word, and every fault comes back under the field that its JSON path names.

```python
form = Form(ApiKeyForm, FIELDS, submitted=request.POST)
with form.faults_told():
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
# Whatever is longer is above every bound, and stays so.
_MOST_DIGITS: Final = 30
# What an unchanged form tells about the object's version (rest.preconditions).
ETAG: Final = "etag"


@dataclass(frozen=True)
class Field:
    """One field of a form.

    Args:
        name: as the wire calls it: the JSON path that faults come under.
        label: what people read.
        kind: how it looks and what it becomes on the wire: `moment` a time (typed in the browser's zone, UTC without
            scripts), `checkbox` a boolean, `number` a whole number, `secret` a text that is never shown again, `lines`
            an array with an object
            for each line, the rest texts.
        hint: a sentence below it.
        required: whether it is marked as such; the rule itself is the serializer's.
        choices: (value, label) of a `choice`.
        placeholder: an example.
        member: of `lines`: what the objects call their text.
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
    """A field with what it holds and what is wrong with it."""

    field: Field
    value: Any
    faults: list[str] = dataclasses.field(default_factory=list)

    @property
    def id(self) -> str:
        """For its label; a JSON path may hold dots and brackets."""
        return f"field-{self.field.name}"

    @property
    def describedby(self) -> str:
        """The IDs of what explains it."""
        hint = [f"{self.id}-hint"] if self.field.hint or self.field.kind == "moment" else []
        return " ".join([*hint, *([f"{self.id}-fault"] if self.faults else [])])


class Form:
    """A form that is filled in, judged by the API's serializer, and shown again with its faults."""

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
            serializer: the API's form for the same write.
            fields: what people may set here.
            submitted: request.POST; None shows the form for the first time.
            present: an edit: the object's present values by wire name. Only what differs from them is written.
            etag: an edit: the version of the object that is shown; comes back with what is submitted.
            context: for the serializer.
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
        for one in fields:
            shown = _shown(one, (present or {}).get(one.name))
            if submitted is not None:
                shown = one.name in submitted if one.kind == "checkbox" else _text(submitted.get(one.name, ""))
            self._fields[one.name] = BoundField(one, shown)

    def __iter__(self) -> Iterator[BoundField]:
        return iter(self._fields.values())

    def __getitem__(self, name: str) -> BoundField:
        return self._fields[name]

    @property
    def if_match(self) -> IfMatch:
        """What the person saw when they began to edit; for services.

        Raises:
            rest.errors.HeaderInvalid: it is no ETag.
        """
        return IfMatch.parse(self.etag) if self.etag else ANY

    def wire(self) -> dict[str, Any]:
        """What was submitted, as a JSON body of the API: all that has a value, or in an edit all that is different."""
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
        """What a service takes, by Python names.

        Raises:
            rest_framework.exceptions.ValidationError: with every fault; `faults_told` puts them to their fields.
        """
        asked = self._serializer(data=self.wire(), partial=self._present is not None, context=self._context)
        asked.is_valid(raise_exception=True)
        return dict(asked.validated_data)

    def faults_told(self) -> "_FaultsTold":
        """A block whose refusals end up in this form. Errors that nobody foresaw go on."""
        return _FaultsTold(self)

    def tell(self, error: GatewayError) -> None:
        """Put an error's details to the fields that their paths name, the rest above the form."""
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
class _FaultsTold:
    form: Form

    def __enter__(self) -> Form:
        return self.form

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        error = translate(exception) if exception is not None else None
        if error is None:
            return False
        self.form.tell(error)
        return True


def _text(value: str) -> str:
    # A browser ends the lines of a textarea with CR LF.
    return value.replace("\r\n", "\n")


def _shown(one: Field, value: Any) -> Any:
    """A value of the object as the field shows it."""
    if one.kind == "checkbox":
        return bool(value)
    if one.kind == "moment":
        return value.astimezone(UTC).strftime(_MOMENT) if isinstance(value, datetime) else ""
    if one.kind == "lines":
        return "\n".join(value or ())
    return "" if value is None else str(value)


def _line_numbers(text: str) -> list[int]:
    """At which lines, from 1, the items of a text stand."""
    return [number for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _written(bound: BoundField) -> Any:
    """What the field holds, as the wire has it; None for nothing."""
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
