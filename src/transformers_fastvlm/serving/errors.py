# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a request is answered with when it cannot be answered, in the form of OpenAI's API."""

from typing import Any

_KINDS = {401: "authentication_error", 429: "rate_limit_error"}


class RequestError(Exception):
    """
    A request that is not answered.

    Args:
        message: what is wrong, in the words of the request.
        status: of HTTP.
        code: a word for programs.
        param: the field that is wrong.
        headers: of the response.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.message, self.status, self.code, self.param, self.headers = message, status, code, param, headers

    def body(self) -> dict[str, Any]:
        """What goes out as JSON."""
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
