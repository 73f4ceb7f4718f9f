"""An open vLLM engine: prompts in, completions and scores of choices out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from evokd_data.errors import EngineStopped, TeacherError
from evokd_data.records import Completion, Constraint, Prompt, is_log_probability, refused
from evokd_data.teachers.answers import read_answer
from evokd_data.teachers.chat import ChatTokenizer
from evokd_data.teachers.label_trie import LabelTrie
from evokd_data.teachers.logs import describe_error
from evokd_data.teachers.scoring import token_logprobs
from evokd_data.teachers.vllm.arguments import cpu_environment, without_folders
from evokd_data.teachers.vllm.names import version
from evokd_data.teachers.vllm.startup import last_error

if TYPE_CHECKING:
    from evokd_data.teachers.vllm.plug import VLLM

MAX_CHECKED_CONSTRAINTS = 256
"""Then the cache is emptied: a grammar that was made for one text never comes again."""

TURNS_ARE_TEXT = (
    "the chat template parts turns by ordinary text and not by control tokens: a text that holds the same words cannot be "
    "told from a turn"
)


class _Refused(Exception):
    """vLLM refuses one request, and answers others."""


class VLLMEngine:
    """An open engine; see `teachers.Engine`. `EngineThread` makes it and owns the engine's processes.

    `llm`: vLLM's AsyncLLM. `arguments`: those of AsyncEngineArgs it was opened with.
    """

    def __init__(
        self, teacher: VLLM, llm: Any, names: SimpleNamespace, log: Path, arguments: Mapping[str, Any]
    ) -> None:
        config = llm.vllm_config
        self._teacher = teacher
        self._llm: Any | None = llm
        self._names = names
        self._log = log
        self._log_offset = log.stat().st_size  # an earlier run may have written to the same file
        self._arguments = dict(arguments)
        self._max_model_len: int = config.model_config.max_model_len
        self._tokenizer = llm.get_tokenizer()
        self._chat = ChatTokenizer(self._tokenizer, teacher.model)
        if not self._chat.marks_turns:
            with log.open("a", encoding="utf-8") as file:
                print(f"evokd-data: {TURNS_ARE_TEXT}", file=file)
        self._can_sleep = bool(self._arguments.get("enable_sleep_mode"))
        self._tries: dict[tuple[str, ...], LabelTrie] = {}
        # Constraint -> vLLM's form of it after its check, in which choices have become a grammar.
        self._checked: dict[tuple[str, Any] | None, Any] = {}
        sequences = config.scheduler_config.max_num_seqs * config.parallel_config.data_parallel_size
        # When a sequence ends, the next one begins at once only if its request already waits inside the engine.
        self.window: int = teacher.window or sequences + max(1, sequences // 8)

    async def complete(self, prompt: Prompt) -> Completion:
        """See `teachers.Engine`. A request that vLLM alone refuses, or gives up on, is a refused completion."""
        try:
            return await self._complete(prompt)
        except _Refused as error:
            return refused(str(error))

    async def _complete(self, prompt: Prompt) -> Completion:
        scored = prompt.constraint is not None and prompt.constraint.score
        chooses = prompt.constraint is not None and prompt.constraint.choices is not None
        ids = self._chat.encode(prompt.messages, self._teacher.thinking and not (scored and chooses))
        room = self._max_model_len - len(ids)
        if room < 1:
            return Completion("", "too_long", len(ids), 0)
        if scored and chooses:
            return await self._score(prompt, ids)
        sampling = prompt.sampling
        constraint = _named_constraint(prompt.constraint)
        checked = self._checked.get(constraint)
        parameters = (self._names.CheckedParams if checked else self._names.SamplingParams)(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, room),
            seed=prompt.seed,
            structured_outputs=checked or self._structured_outputs(constraint),
            output_kind=self._names.RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
            # Otherwise vLLM decodes every token of every request in flight at every step, in this process.
            detokenize=not self._chat.can_decode,
            logprobs=0
            if scored and self._chat.can_decode
            else None,  # 0: of the tokens that are written, and of no other
        )
        output = await self._generate(prompt, ids, parameters)
        if constraint is not None and not checked:
            if len(self._checked) >= MAX_CHECKED_CONSTRAINTS:
                self._checked.clear()
            self._checked[constraint] = parameters.structured_outputs
        if output.finish_reason not in ("stop", "length"):
            return refused(f"vLLM ended it: {output.finish_reason}", len(ids), len(output.token_ids))
        text = self._decode(ids, output) if self._chat.can_decode else output.text
        text = read_answer(text, prompt.constraint, self._teacher.thinking)
        scores = self._token_logprobs(text, ids, output) if scored else None
        return Completion(text, output.finish_reason, len(ids), len(output.token_ids), scores)

    def _token_logprobs(self, text: str, ids: Sequence[int], output: Any) -> dict[str, float] | None:
        """Log-probabilities at temperature 1 of the tokens that the constraint allows: vLLM masks logits before it reads them."""
        if output.logprobs is None or not self._chat.can_decode:
            return None
        written = zip(output.token_ids, output.logprobs, strict=True)
        logprobs = [entry[token].logprob for token, entry in written]
        count = len(logprobs) - (output.finish_reason == "stop")
        return token_logprobs(text, self._chat.pieces(ids, output.token_ids[:count]), logprobs[:count])

    def _decode(self, ids: Sequence[int], output: Any) -> str:
        # The token that ended the answer does not belong to its text, be it special or not.
        return self._chat.decode(ids, output.token_ids[:-1] if output.finish_reason == "stop" else output.token_ids)

    async def _score(self, prompt: Prompt, ids: Sequence[int]) -> Completion:
        """The most probable choice, with the probability of each; see `label_trie`.

        The log-probabilities are the model's own, at temperature 1 and before any mask. Each node of the trie is one request
        of one output token; `completion_tokens` counts these.
        """
        assert prompt.constraint is not None and prompt.constraint.choices
        choices = prompt.constraint.choices
        if len(ids) + self._trie(choices).depth > self._max_model_len:
            return Completion("", "too_long", len(ids), 0)

        async def ask(prefix: Sequence[int], children: Sequence[int]) -> dict[int, float] | None:
            # One request scores at most `limit` tokens. For more of them the same prompt is sent again, mostly from the
            # prefix cache.
            limit = self._names.MAX_LOGPROB_TOKEN_IDS
            parts = [children[start : start + limit] for start in range(0, len(children), limit)]
            outputs = await asyncio.gather(*(self._score_tokens(prompt, [*ids, *prefix], part) for part in parts))
            logprobs = {token: value for output in outputs for token, value in output.items()}
            return logprobs if len(logprobs) == len(children) else None

        scores = await self._trie(choices).walk(ask)
        if scores is None or not all(map(is_log_probability, scores.logprobs)):
            return Completion("", "error", len(ids), 0)
        best = max(range(len(choices)), key=scores.logprobs.__getitem__)
        by_choice = dict(zip(choices, scores.logprobs, strict=True))
        return Completion(choices[best], "stop", len(ids), scores.requests, by_choice)

    async def _score_tokens(self, prompt: Prompt, ids: Sequence[int], tokens: Sequence[int]) -> dict[int, float]:
        """The log-probability of each of `tokens` as the next one after `ids`; of those that the engine answered."""
        parameters = self._names.SamplingParams(
            temperature=0.0,
            max_tokens=1,
            seed=prompt.seed,
            allowed_token_ids=list(tokens),
            logprob_token_ids=list(tokens),
            output_kind=self._names.RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
            detokenize=False,
        )
        output = await self._generate(prompt, ids, parameters)
        first = output.logprobs[0] if output.logprobs else {}
        return {token: first[token].logprob for token in tokens if token in first}

    def _trie(self, choices: tuple[str, ...]) -> LabelTrie:
        if choices not in self._tries:
            tokens = [self._chat.encode_text(choice) for choice in choices]
            self._tries[choices] = LabelTrie(choices, tokens, self._tokenizer.eos_token_id)
        return self._tries[choices]

    def _structured_outputs(self, constraint: tuple[str, Any] | None) -> Any:
        if constraint is None:
            return None
        kind, value = constraint
        return self._names.StructuredOutputsParams(**{kind: list(value) if kind == "choice" else value})

    async def _generate(self, prompt: Prompt, ids: Sequence[int], parameters: Any) -> Any:
        """vLLM's CompletionOutput. Cancelling the coroutine aborts the request inside the engine."""
        if self._llm is None:
            raise TeacherError("the teacher is closed")
        last = None
        try:
            async for output in self._llm.generate(self._names.tokens_input(list(ids)), parameters, prompt.key):
                last = output
        except self._names.VLLMError as error:
            if self._llm.errored:
                raise self._stopped() from error
            raise _Refused(f"vLLM: {describe_error(error.__cause__ or error)}") from error
        if last is None or (last.outputs[0].finish_reason == "abort" and self._llm.errored):
            raise self._stopped()
        return last.outputs[0]

    def _stopped(self) -> EngineStopped:
        cause = last_error(self._log, self._log_offset) or "one of its processes ended without a message, as if killed"
        return EngineStopped(f"the teacher's engine stopped: {cause}; its log: {self._log}")

    async def sleep(self) -> None:
        """Move the weights to main memory and drop the KV cache. Does nothing on a CPU or without `sleep_mode`."""
        if self._can_sleep and self._llm is not None:
            await self._llm.sleep(level=1)

    async def wake(self) -> None:
        """Move the weights back. Does nothing where `sleep` does nothing."""
        if self._can_sleep and self._llm is not None:
            await self._llm.wake_up()

    def environment(self) -> Mapping[str, Any]:
        assert self._llm is not None
        import torch

        config = self._llm.vllm_config
        platform = self._names.current_platform
        return {
            "engine": "vllm",
            "vllm": version(),
            "torch": str(torch.__version__),
            "device": platform.get_device_name(),
            "devices": config.parallel_config.world_size_across_dp,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "max_model_len": self._max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "structured_outputs_backend": self._teacher.backend,
            "window": self.window,
            "batch_invariant": self._names.VLLM_BATCH_INVARIANT,
            "variables": cpu_environment(config.model_config) if platform.is_cpu() else {},
            "engine_args": without_folders({key: value for key, value in self._arguments.items() if key != "model"}),
        }

    def close(self) -> None:
        """Answer nothing any more. `EngineThread` ends the processes."""
        self._llm = None


def _named_constraint(constraint: Constraint | None) -> tuple[str, Any] | None:
    """vLLM's name for the kind of a constraint, and its value: equal and hashable for equal constraints."""
    if constraint is None:
        return None
    if constraint.json_schema is not None:
        return "json", json.dumps(constraint.json_schema)
    if constraint.choices is not None:
        return "choice", constraint.choices
    return "grammar", constraint.grammar
