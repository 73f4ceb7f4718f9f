"""The teacher behind HTTP, against a server in this process that speaks as much of the protocol as is needed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import math
import resource
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from evokd_data.errors import TeacherError
from evokd_data.records import Completion, Constraint
from evokd_data.settings import build, json_schema
from evokd_data.teachers.server.endpoints import Endpoint, EndpointPool
from evokd_data.teachers.server.engine import ServerEngine
from evokd_data.teachers.server.plug import Server
from tests.support.fake_chat_server import FakeServer, Reply, chat, failing, ok, ollama
from tests.support.server_talk import completing, prompt, talk

pytestmark = pytest.mark.slow  # servers that wait, fail and come back: seconds

KEY = "sk-very-secret-1234"
CODES = ("A", "B", "C")
SCHEMA = {"type": "object", "properties": {"texts": {"type": "array"}}, "required": ["texts"]}


def test_answers_come_in_order_over_few_connections(tmp_path: Path) -> None:
    fake = FakeServer()

    async def ask(engine: ServerEngine) -> list[Completion]:
        assert engine.window == 8
        return [
            *await completing(*map(prompt, range(8)))(engine),
            *await completing(*map(prompt, range(8, 16)))(engine),
        ]

    answers = talk(fake, tmp_path, ask, concurrency=8)
    assert [answer.text for answer in answers] == [f"text {index} {2**62 + index}" for index in range(16)]
    assert answers[0] == Completion(f"text 0 {2**62}", "stop", 10, 3)
    assert fake.connections <= 9


def test_the_body_holds_what_the_prompt_says(tmp_path: Path) -> None:
    fake = FakeServer()
    talk(fake, tmp_path, completing(prompt(1)), extra_body={"repetition_penalty": 1.1})
    assert fake.bodies == [
        {
            "model": "org/teacher",
            "messages": [{"role": "system", "content": "Write."}, {"role": "user", "content": "text 1"}],
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 64,
            "seed": 2**62 + 1,
            "chat_template_kwargs": {"enable_thinking": False},
            "repetition_penalty": 1.1,
        }
    ]


@pytest.mark.parametrize(
    ("dialect", "version", "constraint", "part"),
    [
        ("vllm", "0.32.0", Constraint(json_schema=SCHEMA), {"structured_outputs": {"json": SCHEMA}}),
        ("vllm", "0.32.0", Constraint(choices=CODES), {"structured_outputs": {"choice": list(CODES)}}),
        ("vllm", "0.32.0", Constraint(grammar="root ::= a"), {"structured_outputs": {"grammar": "root ::= a"}}),
        ("vllm", "0.10.2", Constraint(choices=CODES), {"guided_choice": list(CODES)}),
        ("sglang", None, Constraint(choices=("a.b", "c")), {"regex": r"(a\.b|c)"}),
        ("sglang", None, Constraint(grammar="root ::= a"), {"ebnf": "root ::= a"}),
    ],
)
def test_constraints_are_asked_for_in_the_servers_own_words(
    dialect: str, version: str | None, constraint: Constraint, part: dict[str, Any], tmp_path: Path
) -> None:
    fake = FakeServer(version=version)
    talk(fake, tmp_path, completing(prompt(1, constraint)), dialect=dialect)
    assert part.items() <= fake.bodies[0].items()


@pytest.mark.parametrize("dialect", ["openai", "sglang"])
def test_a_schema_is_a_response_format(dialect: str, tmp_path: Path) -> None:
    fake = FakeServer()
    talk(fake, tmp_path, completing(prompt(1, Constraint(json_schema=SCHEMA))), dialect=dialect)
    assert fake.bodies[0]["response_format"]["json_schema"]["schema"] == SCHEMA
    assert ("chat_template_kwargs" in fake.bodies[0]) == (dialect == "sglang")


def test_openai_gets_choices_as_an_object_and_gives_them_back_bare(tmp_path: Path) -> None:
    fake = FakeServer(script=[ok(chat('{"answer": "B"}')), ok(chat("B, I think"))])
    answers = talk(
        fake,
        tmp_path,
        completing(prompt(1, Constraint(choices=CODES)), prompt(2, Constraint(choices=CODES))),
        dialect="openai",
    )
    assert sorted(answer.text for answer in answers) == ["B", "B, I think"]


def test_vllm_scores_exactly_the_tokens_of_the_choices(tmp_path: Path) -> None:
    entries = [
        {"token": f"token_id:{ord(code)}", "logprob": value}
        for code, value in zip(CODES, (-1.0, -2.0, -7.0), strict=True)
    ]
    fake = FakeServer(script=[ok(chat("B", logprobs={"content": [{**entries[1], "top_logprobs": entries}]}))])
    (answer,) = talk(fake, tmp_path, completing(prompt(1, Constraint(choices=CODES, score=True))))
    assert fake.bodies[0]["allowed_token_ids"] == fake.bodies[0]["logprob_token_ids"] == [65, 66, 67]
    assert fake.bodies[0]["max_tokens"] == 1
    assert answer.text == "B", "the token that was drawn, not the likeliest"
    assert math.fsum(map(math.exp, answer.choice_logprobs.values())) == pytest.approx(1)
    assert answer.choice_logprobs["A"] - answer.choice_logprobs["C"] == pytest.approx(6)


@pytest.mark.parametrize("dialect", ["vllm", "openai", "sglang", "llamacpp"])
def test_an_answer_under_a_schema_comes_with_the_log_probabilities_of_its_tokens(dialect: str, tmp_path: Path) -> None:
    text = '{"advice": "caf\u00e9"}'
    tokens = [(b'{"advice": "', -0.5), (b"caf\xc3", -1.0), (b"\xa9", -0.25), (b'"}', 0.0)]
    content = [{"token": "?", "bytes": [*data], "logprob": value} for data, value in tokens]
    plain = [{"token": piece, "logprob": -1.0} for piece in ('{"advice": "', "caf\u00e9", '"}')]
    bad = [{"token": text, "logprob": "low"}]
    for sent, scores in (
        (content, {"0:12": -0.5, "12:15": -1.0, "15:16": -0.25}),
        (plain, {"0:12": -1.0, "12:16": -1.0, "16:18": -1.0}),
        (bad, None),
        (None, None),
    ):
        fake = FakeServer(script=[ok(chat(text, logprobs={"content": sent}))])
        asked = prompt(1, Constraint(json_schema=SCHEMA, score=True))
        (answer,) = talk(fake, tmp_path, completing(asked), dialect=dialect)
        assert (answer.text, answer.choice_logprobs) == (text, scores)
        (body,) = fake.bodies
        assert body["logprobs"] is True and "top_logprobs" not in body and body["max_tokens"] > 1
        assert "structured_outputs" in body or "response_format" in body


def test_elsewhere_a_choice_out_of_sight_gets_the_last_one_in_sight(tmp_path: Path) -> None:
    top = [{"token": "A", "logprob": -0.5}, {"token": "Sure", "logprob": -1.0}, {"token": "B", "logprob": -3.0}]
    fake = FakeServer(script=[ok(chat("Sure", logprobs={"content": [{**top[1], "top_logprobs": top}]}))])
    (answer,) = talk(fake, tmp_path, completing(prompt(1, Constraint(choices=CODES, score=True))), dialect="openai")
    assert answer.text == "A"
    assert answer.choice_logprobs["C"] == answer.choice_logprobs["B"]
    assert fake.bodies[0]["top_logprobs"] == 20
    assert "response_format" not in fake.bodies[0]


@pytest.mark.parametrize("dialect", ["vllm", "openai", "sglang", "llamacpp", "ollama"])
def test_choices_that_begin_alike_are_answered_without_scores(dialect: str, tmp_path: Path) -> None:
    choices = ("PlayMusic", "PauseMusic")

    def answer(body: dict[str, Any]) -> Reply:
        assert "logprobs" not in body, "no score was asked for that would mean nothing"
        return ok(ollama("PauseMusic") if dialect == "ollama" else chat("PauseMusic"))

    fake = FakeServer(rules=[answer])
    (answered,) = talk(fake, tmp_path, completing(prompt(1, Constraint(choices=choices, score=True))), dialect=dialect)
    assert answered == Completion("PauseMusic", "stop", 10, 3)
    assert "no scores of PlayMusic, PauseMusic" in (tmp_path / "teacher.log").read_text()


def test_names_of_several_tokens_are_scored_by_the_tokens_that_begin_them(tmp_path: Path) -> None:
    top = [{"token": "Play", "logprob": -0.7}, {"token": "\u0120Get", "logprob": -1.2}, {"token": "P", "logprob": -2.0}]
    top += [{"token": "Sure", "logprob": -2.5}]
    fake = FakeServer(script=[ok(chat("Sure", logprobs={"content": [{**top[0], "top_logprobs": top}]}))])
    choices = ("PlayMusic", "GetWeather", "BookRestaurant")
    (answer,) = talk(fake, tmp_path, completing(prompt(1, Constraint(choices=choices, score=True))), dialect="openai")
    scores = answer.choice_logprobs
    assert answer.text == "PlayMusic"
    assert math.exp(scores["PlayMusic"]) / math.exp(scores["GetWeather"]) == pytest.approx(
        (math.exp(-0.7) + math.exp(-2.0)) / math.exp(-1.2)
    )
    assert scores["BookRestaurant"] == pytest.approx(scores["GetWeather"] - 1.3), "the last one in sight"


def test_a_server_that_sends_no_scores_is_asked_for_the_label_alone(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        return ok(chat("B" if "structured_outputs" in body else "well"))

    scored, plain = talk(
        FakeServer(rules=[answer]), tmp_path, completing(prompt(1, Constraint(choices=CODES, score=True)), prompt(2))
    )
    assert (scored.text, scored.finish_reason, scored.choice_logprobs) == ("B", "stop", None)
    assert plain.finish_reason == "stop"


def test_a_score_that_is_no_number_is_an_error_of_that_row_alone(tmp_path: Path) -> None:
    entries = [{"token": f"token_id:{ord(code)}", "logprob": "low"} for code in CODES]
    fake = FakeServer(script=[ok(chat("A", logprobs={"content": [{**entries[0], "top_logprobs": entries}]}))])
    (scored,) = talk(fake, tmp_path, completing(prompt(1, Constraint(choices=CODES, score=True))))
    assert (scored.text, scored.finish_reason, scored.choice_logprobs) == ("", "error", None)


def test_a_busy_server_is_left_alone_as_long_as_it_asks(tmp_path: Path) -> None:
    fake = FakeServer(script=[failing(429, Retry_After="0.4")])
    started = time.monotonic()
    (answer,) = talk(fake, tmp_path, completing(prompt(1)))
    assert answer.text.startswith("text 1")
    assert 0.4 <= time.monotonic() - started < 5
    fake = FakeServer(script=[failing(503, Retry_After=formatdate(time.time() - 5, usegmt=True))])
    assert talk(fake, tmp_path, completing(prompt(1)))[0].text


def test_failures_and_lost_connections_are_tried_again(tmp_path: Path) -> None:
    fake = FakeServer(script=[None, failing(500), (200, {}, b"not json"), failing(502), None])
    answers = talk(fake, tmp_path, completing(*map(prompt, range(4))))
    assert [answer.text for answer in answers] == [f"text {index} {2**62 + index}" for index in range(4)]
    assert len(fake.bodies) == 9


def test_it_gives_up_with_the_servers_last_words(tmp_path: Path) -> None:
    fake = FakeServer(script=[failing(500, "out of cheese")] * 4)
    with pytest.raises(TeacherError, match=r"generate/000001 failed 3 times, .* 500: out of cheese"):
        talk(fake, tmp_path, completing(prompt(1)), retries=2)


def test_another_server_takes_over(tmp_path: Path) -> None:
    broken = FakeServer(script=[None] * 1000)
    working = FakeServer()
    answers = talk(broken, tmp_path, completing(*map(prompt, range(20))), (working,), concurrency=4)
    assert [answer.text for answer in answers] == [f"text {index} {2**62 + index}" for index in range(20)]
    assert len(working.bodies) == 20
    assert len(broken.bodies) < 20, "it was not left alone"


def test_requests_are_shared_evenly_and_never_too_many_at_once(tmp_path: Path) -> None:
    first, second = FakeServer(delay_s=0.02), FakeServer(delay_s=0.02)
    talk(first, tmp_path, completing(*map(prompt, range(40))), (second,), concurrency=4)
    assert (first.most_at_once, second.most_at_once) == (4, 4)
    assert abs(len(first.bodies) - len(second.bodies)) <= 8


def test_a_prompt_too_long_is_an_answer(tmp_path: Path) -> None:
    message = "This model's maximum context length is 2048 tokens. However, your prompt contains 2300 input tokens"
    fake = FakeServer(script=[failing(400, message)])
    assert talk(fake, tmp_path, completing(prompt(1))) == [Completion("", "too_long", 2300, 0)]


def test_an_answer_that_does_not_fit_gets_the_room_there_is(tmp_path: Path) -> None:
    message = (
        "This model's maximum context length is 2048 tokens and your request has 2040 input tokens (64 > 2048 - 2040)"
    )
    fake = FakeServer(script=[failing(400, message)])
    assert talk(fake, tmp_path, completing(prompt(1)))[0].text
    assert [body["max_tokens"] for body in fake.bodies] == [64, 8]


def test_no_server_and_no_such_model_are_told_at_once(tmp_path: Path) -> None:
    async def open_it(url: str) -> None:
        async with Server(model="org/teacher", urls=(url,)).serve(tmp_path / "log"):
            raise AssertionError("opened")

    with pytest.raises(TeacherError, match=r"nothing answers at http://127\.0\.0\.1:9/v1 .*vllm serve org/teacher"):
        asyncio.run(open_it("http://127.0.0.1:9/v1"))
    with pytest.raises(TeacherError, match=r"has no 'org/teacher'; did you mean 'org/teachers'"):
        talk(FakeServer(model="org/teachers"), tmp_path, completing())


def test_the_key_goes_into_the_header_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    script = [failing(500, f"who is {KEY}?"), failing(400, f"do not like {KEY}"), failing(404, f"no {KEY} here")]
    fake = FakeServer(script=script)

    async def ask(engine: ServerEngine) -> Completion:
        (answer,) = await completing(prompt(1))(engine)
        with pytest.raises(TeacherError, match=r"refused generate/000002: 404 no \*\*\* here"):
            await completing(prompt(2))(engine)
        return answer

    answer = talk(fake, tmp_path, ask, api_key_env="TEACHER_KEY")
    assert fake.keys == {f"bearer {KEY}"}
    assert answer.refusal == "400 do not like ***"
    log = (tmp_path / "teacher.log").read_text()
    assert "who is ***?" in log
    assert KEY not in log + repr(answer)
    assert KEY not in repr(Server(model="m", urls=(fake.url,), api_key_env="TEACHER_KEY").identity())


def test_a_key_that_is_missing_or_wrong_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(TeacherError, match="the variable TEACHER_KEY is not set"):
        talk(FakeServer(), tmp_path, completing(prompt(1)), api_key_env="TEACHER_KEY")
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with pytest.raises(TeacherError, match="does not take the key in TEACHER_KEY"):
        talk(FakeServer(script=[failing(401)]), tmp_path, completing(prompt(1)), api_key_env="TEACHER_KEY")


def test_settings_are_checked_without_repeating_a_key() -> None:
    _, problems = build(Server, {"model": "m", "urls": ["localhost:8000"]}, "teacher")
    assert "http://host:8000/v1" in problems[0]
    _, problems = build(Server, {"model": "m", "urls": ["http://me:pass@host/v1"]}, "teacher")
    assert "a key has no place in an address" in problems[0]
    with pytest.raises(ValueError, match="is the name of an environment variable") as caught:
        Server(model="m", urls=("http://host/v1",), api_key_env=KEY)
    assert KEY not in str(caught.value)
    assert build(Server, {"model": "m", "urls": ["http://host:8000"]}, "teacher")[1] == []
    assert json_schema(Server)["properties"]["dialect"]["default"] == "vllm"


def test_connections_closed_between_rounds_do_not_show(tmp_path: Path) -> None:
    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            fake = await stack.enter_async_context(FakeServer(idle_s=0.2).serving())
            teacher = Server(model="org/teacher", urls=(fake.url,))
            engine = await stack.enter_async_context(teacher.serve(tmp_path / "log"))
            assert (await engine.complete(prompt(1))).text
            time.sleep(0.5)  # the loop stands still while the student trains
            assert (await engine.complete(prompt(2))).text
            assert fake.connections >= 2

    asyncio.run(run())


def test_tokens_are_counted(tmp_path: Path) -> None:
    async def ask(engine: ServerEngine) -> dict[str, Any]:
        await completing(*map(prompt, range(5)))(engine)
        return dict(engine.environment())

    environment = talk(FakeServer(), tmp_path, ask)
    assert (environment["requests"], environment["prompt_tokens"], environment["completion_tokens"]) == (5, 50, 15)
    assert environment["vllm"] == "0.32.0"


def test_where_and_how_fast_is_no_part_of_the_identity() -> None:
    teacher = Server(model="m", urls=("http://a/v1",), revision="abc")
    assert teacher.identity() == Server(model="m", urls=("http://b/v1",), revision="abc", concurrency=1).identity()
    assert teacher.identity() != Server(model="m", urls=("http://a/v1",), revision="abd").identity()


def test_reasoning_is_cut_off(tmp_path: Path) -> None:
    fake = FakeServer(script=[ok(chat("<think>hm</think>\nyes")), ok(chat(None, "length"))])
    answers = talk(fake, tmp_path, completing(prompt(1), prompt(2)))
    assert {(answer.text, answer.finish_reason) for answer in answers} == {("yes", "stop"), ("", "length")}


def test_a_backoff_that_ends_while_it_is_looked_at_is_not_waited_for():
    async def acquire_after_backoffs() -> None:
        endpoint = Endpoint("http://nowhere/v1")
        pool = EndpointPool([endpoint], concurrency=1)
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(30):
            for number in range(2000):
                endpoint.backoff_until = clock() + number % 40 * 1e-6
                assert await pool.acquire() is endpoint
                pool.release(endpoint)

    asyncio.run(acquire_after_backoffs())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"usage": {"prompt_tokens": 2**40, "completion_tokens": 3}}, Completion("fine", "stop", 0, 3)),
        ({"usage": {"prompt_tokens": -7, "completion_tokens": "many"}}, Completion("fine", "stop", 0, 0)),
        ({"usage": {"prompt_tokens": 1e300, "completion_tokens": True}}, Completion("fine", "stop", 0, 0)),
        ({"choices": [{"message": {"content": {"a": "b"}}, "finish_reason": "stop"}]}, Completion("", "stop", 10, 3)),
        ({"choices": [{"message": {"content": "a \ud800"}, "finish_reason": "stop"}]}, None),
    ],
)
def test_numbers_and_texts_of_a_reply_are_believed_within_their_ranges(
    change: dict[str, Any], expected: Completion | None, tmp_path: Path
) -> None:
    fake = FakeServer(script=[ok({**chat("fine"), **change})] * 2)
    (answer,) = talk(fake, tmp_path, completing(prompt(0)), retries=1)
    if expected is None:
        answer.text.encode()  # whatever it is, a file can hold it
    else:
        assert answer == expected


def packed(body: bytes) -> Reply:
    return 200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, gzip.compress(body, 1)


@pytest.mark.slow
def test_a_compressed_answer_is_read_and_one_that_would_fill_the_memory_is_not(tmp_path: Path) -> None:
    honest = packed(json.dumps(chat("fine")).encode())
    (answer,) = talk(FakeServer(script=[honest]), tmp_path, completing(prompt(0)))
    assert answer == Completion("fine", "stop", 10, 3)
    bomb = packed(b" " * (80 * 2**20))
    assert len(bomb[2]) < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TeacherError, match="more than 67108864 bytes when it is unpacked"):
        talk(FakeServer(script=[bomb, bomb]), tmp_path, completing(prompt(0)), retries=0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # KiB


@pytest.mark.parametrize("encoding", ["br", "gzip"])
def test_an_answer_that_cannot_be_unpacked_is_a_failure(encoding: str, tmp_path: Path) -> None:
    reply = (200, {"Content-Encoding": encoding}, b"neither of both")
    with pytest.raises(TeacherError, match=r"compressed as|cannot be unpacked"):
        talk(FakeServer(script=[reply, reply]), tmp_path, completing(prompt(0)), retries=0)


def test_a_long_wait_is_told_once_for_all_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeServer(script=[failing(429, "come later", Retry_After="299")] * 4)

    async def ask(engine: ServerEngine) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(completing(*map(prompt, range(4)))(engine), 1)

    talk(fake, tmp_path, ask)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == f"{fake.url} answers 429: come later; it is asked again in 299 s"


def test_a_short_wait_is_told_in_the_log_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeServer(script=[failing(429, Retry_After="0.2")])
    assert talk(fake, tmp_path, completing(prompt(1)))[0].text
    assert caplog.records == [] and "again in 0.2 s" in (tmp_path / "teacher.log").read_text()


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    fake, other = FakeServer(), FakeServer()

    async def ask() -> None:
        async with other.serving(), fake.serving():
            fake.script = [(307, {"Location": f"{other.url}/chat/completions"}, b"")]
            async with Server(model="org/teacher", urls=(fake.url,), retries=0).serve(tmp_path / "log") as engine:
                await engine.complete(prompt(0))

    with pytest.raises(TeacherError, match="307, a redirect"):
        asyncio.run(ask())
    assert other.bodies == []
