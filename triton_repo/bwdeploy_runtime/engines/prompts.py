"""The checkpoint's tokenizer: prompts to token ids, with the chat template if asked for, and back to text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy_runtime.errors import EngineError, InvalidRequestError
from bwdeploy_runtime.worker.text import TokenizerDetokenizer

if TYPE_CHECKING:
    from pathlib import Path


class PromptEncoder:
    """Loaded once per engine."""

    def __init__(self, checkpoint: Path, *, chat_template: bool, trust_remote_code: bool) -> None:
        """Load the tokenizer.

        Raises:
            EngineError: it is missing, has no fast form, or has no chat template although one is wanted.
        """
        from transformers import AutoTokenizer  # noqa: PLC0415 - the stub side lists this package without it

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                checkpoint, trust_remote_code=trust_remote_code, local_files_only=True
            )
        except (OSError, ValueError, ImportError) as error:
            raise EngineError(f"the tokenizer of {checkpoint} cannot be loaded: {error}") from error
        self._fast: Any = getattr(self._tokenizer, "backend_tokenizer", None)
        if self._fast is None:
            raise EngineError(
                f"{checkpoint} has no tokenizer.json. Convert its tokenizer to the fast format."
            )
        if chat_template and not self._tokenizer.chat_template:
            raise EngineError(
                f"chat_template is on, but the tokenizer of {checkpoint} has none. "
                "Set serve.chat_template: false."
            )
        self._chat_template = chat_template

    @property
    def eos_token_id(self) -> int | None:
        """The tokenizer's own end token."""
        token: int | None = self._tokenizer.eos_token_id
        return token

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt, with the special tokens that the model expects at its beginning.

        Raises:
            InvalidRequestError: there are none.
        """
        if self._chat_template:
            turn = [{"role": "user", "content": prompt}]
            prompt = self._tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        # A chat template writes its own special tokens.
        ids = self._tokenizer(prompt, add_special_tokens=not self._chat_template)["input_ids"]
        if not ids:
            raise InvalidRequestError("text_input has no tokens: give at least one character.")
        return list(ids)

    def detokenizer(self) -> TokenizerDetokenizer:
        """A fresh one for one answer."""
        return TokenizerDetokenizer(self._fast)


def room_for_answer(
    prompt_tokens: int, *, max_tokens: int, max_input_len: int | None, max_seq_len: int
) -> int:
    """How many tokens the answer may have: max_tokens, less where max_seq_len ends earlier.

    Raises:
        InvalidRequestError: the prompt leaves no room for an answer.
    """
    longest_prompt = max_seq_len - 1 if max_input_len is None else min(max_input_len, max_seq_len - 1)
    if prompt_tokens > longest_prompt:
        raise InvalidRequestError(
            f"the prompt has {prompt_tokens} tokens, more than the {longest_prompt} that fit (max_seq_len "
            f"{max_seq_len} holds prompt and answer). Shorten it."
        )
    return min(max_tokens, max_seq_len - prompt_tokens)
