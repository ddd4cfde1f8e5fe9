"""Check the names of a request's query parameters: a mistyped filter must not answer everything."""

from collections.abc import Collection

from rest_framework.request import Request

from rest.errors import QueryInvalid, json_path
from rest.serializers import nearest


def check(request: Request, known: Collection[str]) -> None:
    """Refuse a query parameter that the route does not have, or one that is given twice.

    Raises:
        QueryInvalid: `details` has every such parameter, with the known one that its name resembles.
    """
    faults = {}
    for name, values in request.GET.lists():
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {near}?" if near else "."
            faults[json_path((name,))] = f"There is no such query parameter{hint}"
        elif len(values) > 1:
            faults[name] = "This is given more than once."
    if faults:
        raise QueryInvalid(details=faults)
