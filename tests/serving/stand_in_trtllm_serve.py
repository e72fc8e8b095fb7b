"""A stand-in for `trtllm-serve`: takes the options of one version, refuses others, tells what it got.

$TRTLLM_VERSION chooses between the two spellings of the option for the configuration file. It serves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

INTEGERS = (
    "tp_size",
    "pp_size",
    "ep_size",
    "gpus_per_node",
    "max_batch_size",
    "max_num_tokens",
    "max_seq_len",
)


def main() -> None:
    words = sys.argv[1:]
    if Path(sys.argv[0]).name == "trtllm-llmapi-launch":
        assert words[0] == "trtllm-serve", words
        words = words[1:]
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="trtllm-serve")
    parser.add_argument("model")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--backend", choices=["pytorch", "tensorrt", "_autodeploy"], default="pytorch")
    for name in INTEGERS:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--trust_remote_code", action="store_true")
    parser.add_argument("--custom_module_dirs", action="append", default=[])
    names = ["--extra_llm_api_options"]
    if os.environ["TRTLLM_VERSION"] >= "1.2.0":
        names.append("--config")
    parser.add_argument(*names, dest="config")
    options = parser.parse_args(words)
    assert Path(options.model, "config.json").is_file(), options.model
    assert all(Path(directory, "__init__.py").is_file() for directory in options.custom_module_dirs)
    print(json.dumps({**vars(options), "file": Path(options.config).read_text()}))  # noqa: T201


if __name__ == "__main__":
    main()
