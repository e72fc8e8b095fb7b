"""One request from start to end: preprocessing, the engine (with or without drafts), postprocessing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bwdeploy_engine_models.tensorrt_llm_bls.answer_text import AnswerText, Piece, cut_behind_stop
from bwdeploy_engine_models.tensorrt_llm_bls.drafting import Draft, Ends, draft_and_verify
from bwdeploy_engine_models.tensorrt_llm_bls.names import (
    EXTRA_IDS,
    LENGTHS,
    PREPARED_TO_ENGINE,
    REQUEST_TO_ENGINE,
    TEXT,
    TO_PREPROCESSING,
    TOKENS,
)
from bwdeploy_engine_models.words import words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy_engine_models.tensorrt_llm_bls.request import BlsRequest
    from bwdeploy_engine_models.tensorrt_llm_bls.steps import Steps, Tensors
    from bwdeploy_engine_models.triton_types import Array, TritonTensor

_LOGITS = "generation_logits"


class Settings(NamedTuple):
    """How this model answers."""

    outputs: tuple[str, ...]
    """Outputs of the engine that are passed on."""
    accumulate: bool
    """A streamed response carries the whole text so far."""
    excludes_prompt: bool
    """Unless the request says otherwise, an answer leaves the prompt out."""
    draft_model: str = ""


class Answering:
    """The work on one request."""

    def __init__(self, steps: Steps, request: BlsRequest, request_id: str, settings: Settings) -> None:
        self._steps = steps
        self._request = request
        self._id = request_id
        self._settings = settings
        self._texts: dict[tuple[int, int], AnswerText] = {}
        self._stopped: set[tuple[int, int]] = set()

    def responses(self) -> Iterator[list[TritonTensor]]:
        """The output tensors of each response.

        Raises:
            StepError: a model fails or refuses.
        """
        prepared = self._prepare()
        if self._request.draft_tokens:
            yield self._drafted(prepared)
            return
        names = (TOKENS, LENGTHS, *self._settings.outputs)
        for response in self._steps.generate(self._engine_inputs(prepared), names, request_id=self._id):
            yield from self._response(response)

    def _prepare(self) -> dict[str, Array]:
        tensors = self._forwarded(TO_PREPROCESSING)
        extra = (EXTRA_IDS,) if "prompt_table_extra_id" in self._request.tensors else ()
        return self._steps.prepare(tensors, (*PREPARED_TO_ENGINE, *extra))

    def _engine_inputs(self, prepared: dict[str, Array]) -> Tensors:
        arrays = {name: prepared[made] for made, name in PREPARED_TO_ENGINE.items()}
        if EXTRA_IDS in prepared:
            arrays["prompt_table_extra_ids"] = prepared[EXTRA_IDS]
        return {**self._steps.tensors(arrays), **self._forwarded(REQUEST_TO_ENGINE)}

    def _forwarded(self, names: dict[str, str]) -> Tensors:
        batch = self._request.batch
        given = self._request.tensors
        return {
            name: self._steps.renamed(given[said], name, batch=batch)
            for said, name in names.items()
            if said in given
        }

    def _response(self, response: Tensors) -> Iterator[list[TritonTensor]]:
        """Nothing, when this answer ended at a stop word before."""
        key = _index(response, "batch_index"), _index(response, "sequence_index")
        if key in self._stopped:
            return
        tokens, lengths = response.pop(TOKENS).as_numpy(), response.pop(LENGTHS).as_numpy()
        one_beam = tokens.shape[:2] == (1, 1)
        if self._request.streaming and one_beam:
            pieces = [self._piece(key, tokens[0, 0, : lengths[0, 0]].tolist())]
        else:
            texts = self._steps.whole_texts(tokens, lengths)
            pieces = [self._whole(key[0], text) for text in texts]
        if all(piece.stopped for piece in pieces):
            self._stopped.add(key)
            if self._request.streaming and len(self._stopped) == self._request.batch:
                self._steps.stop(self._id)
        yield [_text_tensor(self._steps, [piece.text for piece in pieces]), *response.values()]

    def _piece(self, key: tuple[int, int], tokens: list[int]) -> Piece:
        if key not in self._texts:
            self._texts[key] = AnswerText(self._steps.texts, self._request.stops[key[0]])
        answer = self._texts[key]
        piece = answer.push(tokens)
        return Piece(answer.text, piece.stopped) if self._settings.accumulate else piece

    def _whole(self, row: int, text: str) -> Piece:
        """A whole answer, behind its prompt when the client wants that repeated."""
        prompt = self._request.prompts[row]
        repeated = not self._excludes_prompt() and text.startswith(prompt)
        return cut_behind_stop(text, self._request.stops[row], start=len(prompt) if repeated else 0)

    def _drafted(self, prepared: dict[str, Array]) -> list[TritonTensor]:
        inputs = self._engine_inputs(prepared)
        inputs.pop("streaming", None)
        inputs |= self._steps.tensors({"exclude_input_in_output": np.array([[True]])})
        length = int(prepared["REQUEST_INPUT_LEN"][0, 0])
        prompt = prepared["INPUT_ID"][0, :length].tolist()
        tokens = draft_and_verify(
            max_tokens=int(prepared["REQUEST_OUTPUT_LEN"][0, 0]),
            draft_tokens=self._request.draft_tokens,
            ends=Ends(int(prepared["OUT_END_ID"][0, 0]), words_of(prepared["STOP_WORDS_IDS"][0])),
            propose=partial(self._propose, inputs, prompt),
            verify=partial(self._verify, inputs, prompt),
        )
        if not self._excludes_prompt():
            tokens = prompt + tokens
        (text,) = self._steps.whole_texts(np.array([[tokens]], np.int32), np.array([[len(tokens)]], np.int32))
        return [_text_tensor(self._steps, [self._whole(0, text).text])]

    def _propose(self, inputs: Tensors, prompt: list[int], answer: list[int], wanted: int) -> Draft:
        arrays = {
            **_continued(prompt + answer, wanted),
            "return_generation_logits": np.array([[self._request.compares_logits]]),
        }
        response = self._last({**inputs, **self._steps.tensors(arrays)}, model=self._settings.draft_model)
        tokens = _tokens(response)[:wanted]
        logits = response[_LOGITS].as_numpy()[0, 0] if _LOGITS in response else None
        return Draft(
            tokens, None if logits is None or not self._request.compares_logits else logits[: len(tokens)]
        )

    def _verify(self, inputs: Tensors, prompt: list[int], answer: list[int], draft: Draft) -> list[int]:
        arrays = {
            **_continued(prompt + answer, len(draft.tokens) + 1),
            "return_generation_logits": np.array([[False]]),
        }
        if draft.tokens:
            arrays["draft_input_ids"] = np.array([draft.tokens], dtype=np.int32)
            if draft.logits is not None:
                arrays["draft_logits"] = draft.logits[np.newaxis]
        return _tokens(self._last({**inputs, **self._steps.tensors(arrays)}))

    def _last(self, inputs: Tensors, *, model: str = "") -> Tensors:
        responses = self._steps.generate(inputs, (TOKENS, LENGTHS, _LOGITS), request_id=self._id, model=model)
        return list(responses)[-1]

    def _excludes_prompt(self) -> bool:
        tensor = self._request.tensors.get("exclude_input_in_output")
        return self._settings.excludes_prompt if tensor is None else bool(tensor.as_numpy().any())


def _continued(tokens: list[int], wanted: int) -> dict[str, Array]:
    return {
        "input_ids": np.array([tokens], dtype=np.int32),
        "input_lengths": np.array([[len(tokens)]], dtype=np.int32),
        "request_output_len": np.array([[wanted]], dtype=np.int32),
    }


def _tokens(response: Tensors) -> list[int]:
    length = int(response[LENGTHS].as_numpy()[0, 0])
    tokens: list[int] = response[TOKENS].as_numpy()[0, 0, :length].tolist()
    return tokens


def _index(response: Tensors, name: str) -> int:
    return int(response[name].as_numpy().reshape(-1)[0]) if name in response else 0


def _text_tensor(steps: Steps, texts: list[str]) -> Any:  # noqa: ANN401 - pb_utils.Tensor
    """One dimension, as upstream: clients read the first item."""
    return steps.tensors({TEXT: np.array([text.encode("utf-8") for text in texts], dtype=np.object_)})[TEXT]
