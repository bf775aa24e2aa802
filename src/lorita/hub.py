"""What lorita asks of the Hugging Face hub, with every refusal turned into one clear message.

Addresses, tokens, cache and offline mode are the hub's own (``HF_ENDPOINT``, ``HF_TOKEN``,
``HF_HOME``, ``HF_HUB_OFFLINE``).
"""

from __future__ import annotations

from pathlib import Path

from lorita.errors import LoritaError, ModelError


def find_model(hub_id: str, revision: str | None) -> str:
    """The commit of a hub model; its ``config.json`` is in the cache afterwards."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        path = hf_hub_download(hub_id, "config.json", revision=revision)
    except LocalEntryNotFoundError as error:
        raise ModelError(f"{hub_id}: {_unreachable(error)}", hint=_HINT) from error
    except EntryNotFoundError as error:
        raise ModelError(
            f"{hub_id}: the hub's repository has no config.json",
            hint="It may hold GGUF files only: download one and give its path.",
        ) from error
    except Exception as error:
        raise explain(error, hub_id, revision, ModelError) from error
    # The cache keeps a snapshot in a folder named after its commit.
    return Path(path).parent.name


_HINT = (
    "Check the network, or give a folder or .gguf file on this machine. "
    "What was downloaded before can be used with HF_HUB_OFFLINE=1."
)


def explain(
    error: Exception, hub_id: str, revision: str | None, kind: type[LoritaError]
) -> LoritaError:
    """The hub's refusal in words: not found, gated, no such revision, offline, unreachable."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return kind(
            f"{hub_id}: access is gated",
            hint="Accept its terms on its page, then log in with `hf auth login` or set HF_TOKEN.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return kind(
            f"{hub_id}: there is neither a folder nor a hub repository of this name",
            hint="Check the spelling (owner/name). A private one needs HF_TOKEN.",
        )
    if isinstance(error, RevisionNotFoundError):
        return kind(f"{hub_id}: the hub has no revision {revision!r} of it")
    if isinstance(error, HFValidationError):
        return kind(f"{hub_id}: not a hub id (owner/name), and there is no such file or folder")
    if isinstance(error, OfflineModeIsEnabled):
        return kind(f"{hub_id}: not in the cache, and HF_HUB_OFFLINE is set", hint=_HINT)
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return kind(f"{hub_id}: the hub answered {error.response.status_code}", hint=_HINT)
    return kind(f"{hub_id}: {_unreachable(error)}", hint=_HINT)


def _unreachable(error: Exception) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "not in the cache, and HF_HUB_OFFLINE is set"
    return f"the hub ({constants.ENDPOINT}) cannot be reached, and it is not in the cache"
