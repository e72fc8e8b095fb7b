"""What a client of tensorrt_llm_bls asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy_engine_models.errors import RequestError
from bwdeploy_engine_models.texts import texts_of

if TYPE_CHECKING:
    from bwdeploy_engine_models.triton_types import TritonRequest


class BlsRequest(NamedTuple):
    """One request, a batch of prompts."""

    tensors: dict[str, Any]
    """Name → pb_utils.Tensor, as it came."""
    prompts: list[str]
    stops: list[list[str]]
    """Stop words of each prompt."""
    streaming: bool
    draft_tokens: int
    """0: no drafting."""
    compares_logits: bool
    """The target compares logits with the draft's, not tokens only."""

    @property
    def batch(self) -> int:
        """Number of prompts."""
        return len(self.prompts)


def read_request(request: TritonRequest, *, decoupled: bool, can_draft: bool) -> BlsRequest:
    """Read and check what this model itself looks at; the rest is for the models that it asks.

    Raises:
        RequestError: what is asked for cannot be done.
    """
    tensors = {tensor.name(): tensor for tensor in request.inputs()}
    if "text_input" not in tensors:
        raise RequestError("text_input is missing.")
    prompts = ["".join(row) for row in texts_of("text_input", tensors["text_input"].as_numpy())]
    stops = texts_of("stop_words", tensors["stop_words"].as_numpy()) if "stop_words" in tensors else []
    found = BlsRequest(
        tensors=tensors,
        prompts=prompts,
        stops=stops or [[] for _ in prompts],
        streaming=_says_yes(tensors, "stream"),
        draft_tokens=_whole(tensors, "num_draft_tokens"),
        compares_logits=_says_yes(tensors, "use_draft_logits"),
    )
    _require_possible(found, decoupled=decoupled, can_draft=can_draft)
    return found


def _require_possible(request: BlsRequest, *, decoupled: bool, can_draft: bool) -> None:
    if not decoupled and request.streaming:
        raise RequestError("stream is true, but this model was built with serve.streaming: false.")
    if not decoupled and request.batch > 1:
        raise RequestError(
            f"text_input holds {request.batch} prompts; the engine takes several in one request only when it "
            "was built with serve.streaming: true. Send one request each."
        )
    if request.draft_tokens < 0:
        raise RequestError(f"num_draft_tokens is {request.draft_tokens}; it must be 0 or more.")
    if not request.draft_tokens:
        return
    if not can_draft:
        raise RequestError(
            "num_draft_tokens is set, but parameter tensorrt_llm_draft_model_name names no drafting model."
        )
    if request.streaming or request.batch > 1 or _says_yes(request.tensors, "return_context_logits"):
        raise RequestError(
            "drafting answers one prompt as a whole, without context logits: leave out stream."
        )


def _says_yes(tensors: dict[str, Any], name: str) -> bool:
    return bool(name in tensors and tensors[name].as_numpy().any())


def _whole(tensors: dict[str, Any], name: str) -> int:
    return int(tensors[name].as_numpy().reshape(-1)[0]) if name in tensors else 0
