"""The engine process: `python -m bwdeploy_runtime.worker` drives one engine and sends its text in time."""
