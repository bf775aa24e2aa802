"""Finds keys, passwords, e-mail addresses and phone numbers, and masks them.

A model memorises such things and repeats them to anyone who asks. The patterns are those that the
services publish; a number counts as a phone number only if it is written like one.
"""

from __future__ import annotations

import re

KINDS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "API key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}",
    "Slack token": r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}",
    "Stripe key": r"\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,}",
    "web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "password": r"(?i)\b(?:password|passwd|api[_-]?key|secret[_-]?key|access[_-]?token)\b"
    r"['\"]?\s*[:=]\s*['\"]?(?=\S*\d)[^\s'\"<>{},;]{8,}",
    "e-mail address": r"\b[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b",
    "phone number": r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,11}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-])",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}
# Reserved for examples, so nobody's address: RFC 2606.
_EXAMPLE = re.compile(r"(?i)@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]+\.(?:example|test))$")


def find_secrets(text: str) -> str | None:
    """The first match of each kind, as ``kind mask``; None if there are none."""
    found = []
    for kind, pattern in _PATTERNS.items():
        real = (m[0] for m in pattern.finditer(text) if not _EXAMPLE.search(m[0]))
        first = next(real, None)
        found += [f"{kind} {masked(first)}"] if first is not None else []
    return ", ".join(found) or None


def hide_secrets(text: str) -> str:
    """The text with everything that looks like a secret masked, so that it can be shown."""
    for pattern in _PATTERNS.values():
        text = pattern.sub(lambda match: masked(match[0]), text)
    return text


def masked(secret: str) -> str:
    """The first characters of a secret and its length: ``sk-… (40 characters)``."""
    name, at, host = secret.partition("@")
    if at:
        return f"{name[:1]}…@{host[:1]}….{host.rpartition('.')[2]}"
    return f"{secret[:3]}… ({len(secret)} characters)"
