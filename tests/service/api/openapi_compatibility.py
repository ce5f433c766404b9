"""Which changes between two OpenAPI documents break a client that was written for the older one.

A client ignores fields, statuses and error codes that it does not know. It relies on the others, and on everything that
it sends.
"""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
EQUAL_KEYWORDS = ("const", "format", "pattern", "minItems", "maxItems", "discriminator")


def breaking_changes(old: Json, new: Json) -> list[str]:
    """Return a line for each breaking change."""
    return list(_Comparison(old, new).changes())


class _Comparison:
    def __init__(self, old: Json, new: Json):
        self.old = old
        self.new = new
        self.compared: set[tuple[str, str, bool]] = set()  # pairs of schemas by name; they can contain themselves

    def changes(self) -> Iterator[str]:
        for path, old_route in self.old["paths"].items():
            for method in METHODS:
                if method in old_route:
                    place = f"{method.upper()} {path}"
                    if method not in self.new["paths"].get(path, {}):
                        yield f"{place} is removed"
                    else:
                        yield from self._operation(place, old_route[method], self.new["paths"][path][method])
        components = self.old["components"]
        for kind in ("schemas", "securitySchemes"):
            for name in components[kind].keys() - self.new["components"][kind].keys():
                yield f"components/{kind}/{name} is removed"
        for name in components["schemas"].keys() & self.new["components"]["schemas"].keys():  # of the WebSocket too
            reference = {"$ref": f"#/components/schemas/{name}"}
            yield from self._schema(name, reference, reference, sent=False)

    def _operation(self, place: str, old: Json, new: Json) -> Iterator[str]:
        parameters = [{(p["in"], p["name"]): p for p in operation.get("parameters", [])} for operation in (old, new)]
        yield from self._parameters(place, *parameters)
        if "requestBody" in new and (new["requestBody"].get("required") and "requestBody" not in old):
            yield f"{place} requires a body"
        contents = [operation.get("requestBody", {}).get("content", {}) for operation in (old, new)]
        yield from self._content(f"{place} request", *contents, sent=True)
        for status, response in old["responses"].items():
            if status not in new["responses"]:
                yield f"{place} {status} is removed"
                continue
            other = new["responses"][status]
            yield from self._content(f"{place} {status}", response.get("content", {}), other.get("content", {}))
            for header in response.get("headers", {}).keys() - other.get("headers", {}).keys():
                yield f"{place} {status} header {header} is removed"

    def _parameters(self, place: str, old: Json, new: Json) -> Iterator[str]:
        for key, parameter in new.items():
            if parameter.get("required") and not old.get(key, {}).get("required"):
                yield f"{place} requires the parameter {key[1]}"
        for key, parameter in old.items():
            if key not in new:
                yield f"{place} parameter {key[1]} is removed"
            else:
                yield from self._schema(f"{place} ?{key[1]}", parameter["schema"], new[key]["schema"], sent=True)

    def _content(self, place: str, old: Json, new: Json, sent: bool = False) -> Iterator[str]:
        for media_type, content in old.items():
            if media_type not in new:
                yield f"{place} {media_type} is removed"
            else:
                yield from self._schema(f"{place} {media_type}", content["schema"], new[media_type]["schema"], sent)

    def _schema(self, place: str, old: Json, new: Json, sent: bool) -> Iterator[str]:
        """Compare what a client sends (`sent`), or what it receives."""
        if "$ref" in old and "$ref" in new:
            if (pair := (old["$ref"], new["$ref"], sent)) in self.compared:
                return
            self.compared.add(pair)
        olds, news = self._alternatives(self.old, old), self._alternatives(self.new, new)
        if len(olds) == len(news) == 1:
            yield from self._alternative(place, olds.popitem()[1], news.popitem()[1], sent)
            return
        for name in olds.keys() - news.keys():
            yield f"{place}: {name} is removed"
        for name in () if sent else news.keys() - olds.keys():
            yield f"{place}: {name} is possible"
        for name in olds.keys() & news.keys():
            yield from self._alternative(place, olds[name], news[name], sent)

    def _alternatives(self, document: Json, schema: Json) -> dict[str, Json]:
        """Return the schemas that a value may have, without references, by their name or type."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            found = self._alternatives(document, document["components"]["schemas"][name])
            return {name: next(iter(found.values()))} if len(found) == 1 else found
        parts = schema.get("anyOf") or schema.get("oneOf")
        if parts:
            return {name: part for each in parts for name, part in self._alternatives(document, each).items()}
        return {str(schema.get("type", "any")): schema}

    def _alternative(self, place: str, old: Json, new: Json, sent: bool) -> Iterator[str]:
        if old.get("type") != new.get("type"):
            yield f"{place} has type {new.get('type')}, not {old.get('type')}"
            return
        for keyword in EQUAL_KEYWORDS:
            if old.get(keyword) != new.get(keyword):
                yield f"{place} has {keyword} {new.get(keyword)}, not {old.get(keyword)}"
        yield from self._values(place, old, new, sent)
        properties, others = old.get("properties", {}), new.get("properties", {})
        for name in properties.keys() - others.keys():
            yield f"{place}.{name} is removed"
        for name in properties.keys() & others.keys():
            yield from self._schema(f"{place}.{name}", properties[name], others[name], sent)
        required, now_required = set(old.get("required", [])), set(new.get("required", []))
        for name in (now_required - required) if sent else (required - now_required) & others.keys():
            yield f"{place}.{name} is {'required' if sent else 'optional'}"
        if "items" in old and "items" in new:
            yield from self._schema(f"{place}[]", old["items"], new["items"], sent)

    def _values(self, place: str, old: Json, new: Json, sent: bool) -> Iterator[str]:
        for value in set(old.get("enum", [])) - set(new.get("enum", old.get("enum", []))):
            yield f"{place} value {value} is removed"
        # What a client sends must still be allowed; what it receives must stay within the old bounds.
        narrow, wide = (new, old) if sent else (old, new)
        for keyword, sign in (("minimum", 1), ("maximum", -1), ("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
            infinite = float("-inf")
            if narrow.get(keyword) is not None and sign * wide.get(keyword, sign * infinite) < sign * narrow[keyword]:
                yield f"{place} has {keyword} {new.get(keyword)}, not {old.get(keyword)}"
