from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.recipe.schema import DraftMeasurement
from bwdeploy.worker.drafts.workloads import Prompt, read_prompts, tokenize
from tests.worker.drafts.tiny_pair import write_prompts
from tests.worker.tiny_llama import make_tokenizer


def test_builtin_workloads_have_what_the_default_asks_for() -> None:
    prompts = read_prompts(DraftMeasurement())
    assert Counter(prompt.workload for prompt in prompts) == dict.fromkeys(
        ("code", "math", "chat", "summary"), DraftMeasurement().prompts_per_workload
    )
    assert len({prompt.text for prompt in prompts}) == len(prompts)


def test_choice_depends_on_the_seed_alone() -> None:
    def chosen(seed: int) -> list[Prompt]:
        return read_prompts(DraftMeasurement(prompts_per_workload=5, seed=seed))

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    assert len(chosen(1)) == 20


def test_file_of_a_recipe_is_read_by_workload(tmp_path: Path) -> None:
    prompts = read_prompts(DraftMeasurement(prompts=write_prompts(tmp_path / "p.jsonl", each=6)))
    assert [prompt.workload for prompt in prompts] == ["code"] * 6 + ["chat"] * 6
    assert prompts[0].place.startswith(f"{tmp_path}/p.jsonl:")


def line(**row: Any) -> str:
    return json.dumps({"prompt": "Hi there", "workload": "chat"} | row, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no prompt"),
        (line() * 4 + "{'prompt': 1}\n", r"p\.jsonl:5 is not JSON"),
        (line() + '"just text"\n', r"p\.jsonl:2 is no object"),
        (line() * 4 + line(workload=None), "p.jsonl:5 has no text under 'workload'"),
        (line(prompt=["a"]), "has no text under 'prompt'"),
        (line(prompt="  "), "has no text under 'prompt'"),
        ('{"prompt": "half a smile \\ud83d", "workload": "chat"}\n', "has no text under 'prompt'"),
        ("[" * 100_000 + "\n", r"p\.jsonl:1 is not JSON"),
        (line(workload="x" * 101), "name of the workload is too long"),
        (line() * 4 + line(workload="code") * 3, "3 prompts of workload 'code' give no interval"),
    ],
)
def test_prompts_in_another_format_or_too_few_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        read_prompts(DraftMeasurement(prompts=f"file://{file}"))


def test_line_separators_inside_a_prompt_do_not_end_it(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(line(prompt="one\u2028two") * 4, encoding="utf-8")
    assert read_prompts(DraftMeasurement(prompts=f"file://{file}"))[0].text == "one\u2028two"


def test_missing_file_and_unknown_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read_prompts(DraftMeasurement(prompts=f"file://{tmp_path}/none.jsonl"))
    with pytest.raises(RecipeError, match="is no file of prompts"):
        read_prompts(DraftMeasurement(prompts="hf://some/prompts@main"))


def test_few_prompts_by_wish_are_refused_too() -> None:
    with pytest.raises(RecipeError, match="2 prompts of workload 'code' give no interval"):
        read_prompts(DraftMeasurement(prompts_per_workload=2))


def test_prompt_is_a_user_turn_up_to_where_the_answer_begins(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    tokenizer.chat_template += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    (found,) = tokenize([Prompt("chat", "Hello", "here:1")], tokenizer, longest=None)
    assert tokenizer.decode(found.tokens) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    tokenizer.chat_template = None
    (plain,) = tokenize([Prompt("chat", "Hello", "here:1")], tokenizer, longest=None)
    assert tokenizer.decode(plain.tokens) == "Hello"


def test_prompt_that_is_too_long_too_short_or_against_the_template_is_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    with pytest.raises(RecipeError, match=r"here:1 has .* room for 3"):
        tokenize([Prompt("chat", "Hello", "here:1")], tokenizer, longest=3)
    tokenizer.chat_template = "{{ raise_exception('no user turns') }}"
    with pytest.raises(RecipeError, match="chat template refuses it: no user turns"):
        tokenize([Prompt("chat", "Hello", "here:1")], tokenizer, longest=None)
    tokenizer.chat_template = None
    with pytest.raises(RecipeError, match="too few tokens"):
        tokenize([Prompt("chat", "a", "here:1")], tokenizer, longest=None)
