"""The kit: tags and filters for the templates of the dashboard."""

import json
from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard.kit.forms import BoundField, Form
from dashboard.kit.lists import Filters, Listing
from dashboard.navigation import Section
from dashboard.wording.relative_time import duration
from gateway_core.redaction import MASK_LEAD, MASK_TAIL, WHOLE_KEY

register = template.Library()
register.filter(duration)


@register.simple_tag
def icon(name: str) -> SafeString:
    """`{% icon "key" %}`: a Material symbol. It is hidden from screen readers, so write the same in words beside it."""
    return format_html('<span class="icon" aria-hidden="true">{}</span>', name)


@register.simple_tag
def badge(text: str, kind: str = "neutral") -> SafeString:
    """`{% badge "Disabled" "warning" %}`: neutral, good, warning, bad or info."""
    return format_html('<span class="badge badge-{}">{}</span>', kind, text)


@register.simple_tag
def moment(value: datetime | None, absent: str = "never", form: str = "relative") -> SafeString:
    """`{% moment key.last_used "never" %}`: a time, in the browser's zone where scripts run, with UTC in its title.

    Args:
        value: the time; None shows `absent`.
        absent: the text for None.
        form: `relative` ("3 minutes ago") or `exact`.
    """
    if value is None:
        return format_html('<span class="subtle">{}</span>', absent)
    utc = value.astimezone(UTC)
    text = utc.strftime("%Y-%m-%d %H:%M:%S UTC")
    return format_html(
        '<time datetime="{}" title="{}" data-moment="{}">{}</time>', utc.isoformat(), text, form, text[:16] + " UTC"
    )


@register.simple_tag
def mask_rules() -> str:
    """`{% mask_rules %}`: what masked.js needs to show a whole key by its mask, as JSON."""
    return json.dumps({"key": WHOLE_KEY, "lead": MASK_LEAD, "tail": MASK_TAIL})


@register.filter
def thousands(number: int) -> str:
    """`{{ count|thousands }}`: 1,048,576."""
    return f"{number:,}"


@register.simple_tag
def copy_button(text: str, label: str = "Copy") -> SafeString:
    """`{% copy_button token %}`: puts a text on the clipboard."""
    return format_html(
        '<button type="button" class="button button-small" data-copy="{}">{}<span>{}</span></button>',
        text,
        icon("content_copy"),
        label,
    )


@register.inclusion_tag("dashboard/kit/field.html")
def field(form: Form, name: str) -> dict[str, BoundField]:
    """`{% field form "name" %}`: label, input, hint and faults of one field."""
    return {"bound": form[name]}


@register.inclusion_tag("dashboard/kit/form_faults.html")
def form_faults(form: Form) -> dict[str, Form]:
    """`{% form_faults form %}`: the faults of the form as a whole, or a note that fields below have faults."""
    return {"form": form}


@register.inclusion_tag("dashboard/kit/paging.html")
def paging(listing: Listing) -> dict[str, Listing]:
    """`{% paging listing %}`: links to newer and older items."""
    return {"listing": listing}


@register.inclusion_tag("dashboard/kit/filters.html", takes_context=True)
def filters(context: dict[str, Any], chosen: Filters) -> dict[str, Any]:
    """`{% filters chosen %}`: the form that narrows a list."""
    return {"filters": chosen, "path": context["request"].path}


@register.filter
def is_current(section: Section, page: Any) -> bool:
    """`{{ section|is_current:page }}`: whether a page belongs to a section."""
    return getattr(page, "section", None) is section
