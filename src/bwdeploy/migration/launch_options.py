"""What the options of a trtllm-serve or trtllm-bench command line give: arguments, the model, a YAML file.

Which options there are is said in `facts.llm_api_options`; one that is not known, or whose value a shell
would have filled in, is noted.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Any

from bwdeploy.facts.llm_api_options import FILE, MODEL, MODEL_PATH, launch_options
from bwdeploy.migration.files import read_text, source_error
from bwdeploy.migration.found import Note
from bwdeploy.migration.launch_script import Launch, file_named
from bwdeploy.migration.shell_text import VARIABLE
from bwdeploy.migration.values import ValueMisfitError, value_of

MODEL_NOTE = "model"
"""Key of the note on a model that is a shell variable."""
_BARE = re.compile(r"^[ \t]*\$\w+[ \t]*$", re.MULTILINE | re.ASCII)
_SUBCOMMANDS = frozenset({"throughput", "latency", "serve"})
_OPTIONS = "tests/unittest/api_stability/references/trtllm_serve_cli.yaml"


class GivenOptions:
    """What the options of a command line give."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arguments: dict[str, Any] = {}
        self.model = self.model_path = self.file = ""
        self.notes: list[Note] = []

    def read(self, launch: Launch) -> None:
        """Take every option of `launch`."""
        options, words = launch_options(launch.program), list(launch.words)
        while words:
            word = words.pop(0)
            name, equals, value = word.partition("=")
            option = options.get(name)
            if not word.startswith("-"):
                self._positional(word)
            elif option is None:
                self._unknown(name, words)
            elif option.kind == "switch":
                self._take(name, option.argument or "", not value or value.lower() == "true", option.why)
            elif equals or words:
                text = value if equals else words.pop(0)
                self._valued(name, text, launch.program)

    def file_text(self, launch: Launch) -> str:
        """The YAML file that the command line names, empty when it names none.

        Raises:
            RecipeError: the file is not there, or cannot be told.
        """
        if not self.file:
            return ""
        text = file_named(launch, self.file)
        if text is None and VARIABLE.search(self.file):
            message = f"the arguments stand in {self.file}, and what that is, the script does not say plainly"
            raise source_error(self.path, message, "write the name of the file there, or migrate that file")
        if text is None:
            text = read_text(self._place())
        return _BARE.sub(self._lost_line, text)

    def _place(self) -> Path:
        """The file that is named: as seen from the script or from a directory above it, else beside it."""
        start = self.path.absolute().parent
        found = next((at / self.file for at in (start, *start.parents) if (at / self.file).is_file()), None)
        beside = start / PurePath(self.file).name
        if found is None and beside.is_file():
            message = f"not there; {beside.name} beside the script was read in its place"
            self.notes.append(Note("assumed", "file of arguments", self.file, message))
            return beside
        return found or self.path.parent / self.file

    def _lost_line(self, line: re.Match[str]) -> str:
        message = "a shell variable that stands for whole lines, which are not known here"
        self.notes.append(Note("lost", self.file, line[0].strip(), message, "set them in the recipe by hand"))
        return ""

    def _positional(self, word: str) -> None:
        if word in _SUBCOMMANDS or self.model:
            return
        if VARIABLE.search(word):
            message = "a shell variable, so that the model is not known here"
            self.notes.append(Note("lost", MODEL_NOTE, word, message, "name it with --model", _OPTIONS))
            return
        self.model = word

    def _unknown(self, name: str, words: list[str]) -> None:
        value = words.pop(0) if words and not words[0].startswith("-") else None
        self.notes.append(Note("lost", name, value, "no known option of this command", "", _OPTIONS))

    def _valued(self, name: str, text: str, program: str) -> None:
        option = launch_options(program)[name]
        try:
            self._take(name, option.argument, value_of(option.kind, text), option.why)
        except ValueMisfitError as misfit:
            message = f"should be {misfit}" if not VARIABLE.search(text) else "a shell variable"
            self.notes.append(Note("lost", name, text, message, "set it in the recipe by hand", _OPTIONS))

    def _take(self, name: str, argument: str, value: Any, why: str) -> None:  # noqa: ANN401 - JSON data
        if argument == FILE:
            self.file = value
        elif argument == MODEL:
            self._positional(value)
        elif argument == MODEL_PATH and not VARIABLE.search(value):
            self.model_path = value
        elif argument and argument != MODEL_PATH:
            *above, last = argument.split(".")
            parent = self.arguments
            for word in above:
                parent = parent.setdefault(word, {})
            parent[last] = value
        else:
            self.notes.append(Note("no-effect", name, value, why, "", _OPTIONS))
