"""A browser without JavaScript, in a few lines: cookies, links and forms as a person uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urljoin

from tests.live_box import Answer, LiveBox


@dataclass
class Form:
    method: str = "get"
    action: str = ""
    id: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.words: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.inputs: list[dict[str, str | None]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._in_form = False
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self.handlers += [name for name in given if name.startswith("on") or name == "style"]
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag == "label":
            self.labels.append(given.get("for") or "")
        if tag == "form":
            self.forms.append(Form(given.get("method") or "get", given.get("action") or "", given.get("id") or ""))
            self._in_form = True
        if tag in ("input", "button"):
            self.inputs.append(given)
            ticked = given.get("type") not in ("checkbox", "radio") or "checked" in given
            if self._in_form and given.get("name") and tag == "input" and ticked:
                self.forms[-1].fields.append((given["name"] or "", given.get("value") or ""))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False
        if tag == "form":
            self._in_form = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)
            if self._in_form:
                self.forms[-1].text += data


@dataclass
class Page:
    answer: Answer
    url: str
    reader: _Reader

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.reader.words).split())

    def form(self, action: str = "", *, named: str = "", **fields: str) -> Form:
        """The form whose hidden `action` is this one (and that has these values), or that has this HTML id."""
        for form in self.reader.forms:
            known = dict(form.fields)
            if (known.get("action") == action if action else form.id == named) and fields.items() <= known.items():
                return form
        raise AssertionError(f"no form {action or named} with {fields} on the page: {self.text}")


class Browser:
    """One browser at one box."""

    def __init__(self, box: LiveBox, agent: str = "Testbrowser/1", **headers: str) -> None:
        self.box = box
        self.cookies: dict[str, str] = {}
        self.headers = {"User-Agent": agent, **headers}

    def get(self, path: str, follow: bool = True) -> Page:
        return self._go("GET", path, None, follow)

    def send(self, page: Page, form: Form, follow: bool = True, **typed: str | None) -> Page:
        """Fills a form in and sends it. None leaves a field out."""
        names = {name.replace("_", "-"): value for name, value in typed.items()}
        fields = [(name, value) for name, value in form.fields if name not in names]
        fields += [(name, value) for name, value in names.items() if value is not None]
        return self._go("POST", urljoin(page.url, form.action or page.url), urlencode(fields).encode(), follow)

    def sign_in(self, password: str, name: str = "alice.test", path: str = "/account", **typed: str) -> Page:
        page = self.get(path)
        return self.send(page, page.form(named="sign-in"), username=name, password=password, **typed)

    def _go(self, verb: str, path: str, body: bytes | None, follow: bool) -> Page:
        headers: dict[str, Any] = dict(self.headers)
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.box.url, **self.headers}
        answer = self.box.request(verb, path, body, headers)
        for cookie in answer.cookies:
            name, _, rest = cookie.partition("=")
            value, _, attributes = rest.partition(";")
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        if follow and answer.status in (302, 303):
            return self._go("GET", urljoin(path, answer.headers["location"]), None, True)
        reader = _Reader()
        if "text/html" in answer.headers.get("content-type", ""):
            reader.feed(answer.body.decode())
        return Page(answer, path, reader)
