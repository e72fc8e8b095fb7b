"""Run every benchmark that needs no GPU, one after another: `python -m benchmarks`."""

from benchmarks import cli_startup, formats, matrix_check, noop_build, ptq, triton_streams

for benchmark in (noop_build, cli_startup, matrix_check, ptq, triton_streams, formats):
    benchmark.main()
