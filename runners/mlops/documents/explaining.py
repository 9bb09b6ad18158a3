"""Check a document against its model, and say what is wrong in the words of its schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mlops.documents.problems import DocumentError, Problem, nearest
from mlops.documents.reading import Document, Place
from mlops.documents.schemas import Schema, keys_of, parts_at, schema_of, words_among, words_of

Model = TypeVar("Model", bound=BaseModel)


def checked(document: Document, model: type[Model], *, error: type[DocumentError] = DocumentError) -> Model:
    """Return the document as the model; raise ``error`` with every mistake, each at its line and column."""
    try:
        return model.model_validate(document.values)
    except ValidationError as cause:
        raise error(document.source, explained(document, model, cause)) from None


def explained(document: Document, model: type[BaseModel], cause: ValidationError) -> list[Problem]:
    """Translate what pydantic found: one problem per place, none for a key that is merely mistyped."""
    schema = schema_of(model)
    details = cause.errors(include_url=False, include_input=False)
    problems: dict[tuple[Place, str], Problem] = {}
    for detail in details:
        place = written_place(document, detail["loc"])
        kind = detail["type"] if detail["type"] in {"missing", "extra_forbidden"} else ""
        key = (detail["loc"] if kind else place, kind)
        problems.setdefault(key, _problem(document, schema, detail, place))
    meant = {
        (*loc[:-1], problem.nearest) for (loc, kind), problem in problems.items() if kind == "extra_forbidden"
    }
    return [problem for (loc, kind), problem in problems.items() if not (kind == "missing" and loc in meant)]


def written_place(document: Document, loc: Sequence[str | int]) -> Place:
    """Return the part of pydantic's location that the file contains (it adds names of alternatives)."""
    place: Place = ()
    for step in loc:
        try:
            document.get((*place, step))
        except KeyError:
            break
        place = (*place, step)
    return place


def _problem(document: Document, schema: Schema, detail: ErrorDetails, place: Place) -> Problem:
    loc = detail["loc"]
    if detail["type"] == "missing":
        return _missing(document, schema, loc, place)
    if detail["type"] == "extra_forbidden":
        return _unknown(document, schema, loc)
    where = document.value_position(place)
    value = document.get(place)
    if detail["type"] == "value_error":
        found = "" if isinstance(value, dict) else shown(value)
        return Problem(where=where, headline=str(detail["ctx"]["error"]), found=found)
    parts = parts_at(schema, loc)
    return Problem(
        where=where,
        headline=f"`{name_of(place)}` has a wrong value",
        expected=words_of(parts) or detail["msg"],
        found=_found(document, place, parts, value),
        nearest=nearest(value, words_among(parts)) if isinstance(value, str) else "",
    )


def _missing(document: Document, schema: Schema, loc: Place, place: Place) -> Problem:
    description = next(iter(_descriptions(schema, loc)), "")
    words = words_of(parts_at(schema, loc))
    return Problem(
        where=document.position(place),
        headline=f"`{name_of(loc)}` is missing",
        expected=f"`{loc[-1]}:` with {words}" + (f" ({description.rstrip('.')})" if description else ""),
    )


def _descriptions(schema: Schema, loc: Place) -> Iterator[str]:
    for part in parts_at(schema, loc[:-1]):
        found = part.get("properties", {}).get(loc[-1], {})
        if "description" in found:
            yield found["description"]


def _unknown(document: Document, schema: Schema, loc: Place) -> Problem:
    known = keys_of(parts_at(schema, loc[:-1]))
    here = cast(dict[str, object], document.get(loc[:-1]))  # only a mapping has unknown keys
    free = [key for key in known if key not in here]
    meant = nearest(loc[-1], free) or nearest(loc[-1], known)
    return Problem(
        where=document.position(loc),
        headline=f"unknown key `{name_of(loc)}`",
        expected="one of " + ", ".join(f"`{key}`" for key in known),
        nearest=meant,
    )


def _found(document: Document, place: Place, parts: Sequence[Schema], value: object) -> str:
    text_wanted = any(part.get("type") == "string" for part in parts)
    written = document.written.get(place, "")
    if text_wanted and isinstance(value, int | float) and written:
        kind = "word" if isinstance(value, bool) else "number"
        return f'the {kind} {shown(value)}, because it is not quoted: write "{written}" with the quotes'
    if (
        isinstance(value, str)
        and value.lower() in {"yes", "no", "on", "off"}
        and any(part.get("type") == "boolean" for part in parts)
    ):
        return f"the text `{value}`: write `{'true' if value.lower() in {'yes', 'on'} else 'false'}`"
    if isinstance(value, str) and value and not text_wanted:
        return f"the text {shown(value)}"
    return shown(value)


def shown(value: object) -> str:
    """Say in words what was found."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, dict):
        return (
            "a section with the keys " + ", ".join(f"`{key}`" for key in value)
            if value
            else "an empty section"
        )
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return f"`{str(value)[:60]}`" if value != "" else "empty text"


def name_of(place: Sequence[str | int]) -> str:
    """Write a place as people do: ``metric.slices[1].column``."""
    text = ""
    for step in place:
        text += f"[{step + 1}]" if isinstance(step, int) else f"{'.' if text else ''}{step}"
    return text or "the file"
