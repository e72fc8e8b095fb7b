"""The errors of the runtime.

RuntimeFault
├── ConfigError           engine.json is not usable; the model does not load
├── InvalidRequestError   the client's request is wrong; the text says what to change
├── UnavailableError      nothing wrong with the request, but no room or no engine right now
├── EngineError           the engine cannot load or cannot answer
└── ProtocolError         a frame between the two processes is not readable: a bug of ours
"""

from __future__ import annotations


class RuntimeFault(Exception):  # noqa: N818 - the leaves carry the suffix
    """Base of every error that the runtime raises on purpose."""


class ConfigError(RuntimeFault):
    """The runtime configuration is wrong."""


class InvalidRequestError(RuntimeFault):
    """The request is wrong."""


class UnavailableError(RuntimeFault):
    """The request cannot be taken now; the same request may work later."""


class EngineError(RuntimeFault):
    """The engine cannot load or cannot answer."""


class ProtocolError(RuntimeFault):
    """The two processes do not understand each other."""
