"""The web for tests: the outbound HTTP client's `request`, answered from a table of URLs."""

from dataclasses import dataclass, field

from pds_lite.errors import UpstreamFailure


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Web:
    """`answers` maps a URL to (status, body), or to the sentence of the failure to reach it; `asked` records calls."""

    answers: dict[str, tuple[int, bytes] | str] = field(default_factory=dict)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    follows: list[int] = field(default_factory=list)
    configured: list[bool] = field(default_factory=list)

    async def request(self, method, url, headers=None, body=b"", *, timeout, max_bytes, follow=0, configured=False):  # noqa: ASYNC109 - as HttpClient
        self.asked.append((method, url, body))
        self.follows.append(follow)
        self.configured.append(configured)
        answer = self.answers.get(url, f"no route to {url}")
        if isinstance(answer, str):
            raise UpstreamFailure(answer)
        if len(answer[1]) > max_bytes:
            raise UpstreamFailure(f"{url} answered more than {max_bytes} bytes")
        return Answer(*answer)
