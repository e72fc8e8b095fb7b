"""Inside Triton: requests in, responses out, and the link to the engine process. Needs numpy at most."""
