"""Everything lorita asks of the Hugging Face hub, each failure turned into one clear message.

Address, token, cache and offline mode are configured with the hub's own variables
(``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME``, ``HF_HUB_OFFLINE``).
"""

from __future__ import annotations

import warnings
from pathlib import Path

from lorita.errors import (
    AdapterError,
    LoritaError,
    LoritaWarning,
    ModelError,
    SettingsError,
    UserError,
)
from lorita.storage import names
from lorita.storage.connection import find_hub, is_lost, quiet_client


def find_model(hub_id: str, revision: str | None) -> tuple[str, Path]:
    """The commit of a hub model at ``revision``, and its ``config.json`` in the cache.

    Raises ``ModelError`` with the reason if it is not available.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    find_hub()
    try:
        with quiet_client():
            path = hf_hub_download(hub_id, "config.json", revision=revision)
    except LocalEntryNotFoundError as error:
        raise _not_here(hub_id, ModelError) from error
    except EntryNotFoundError as error:
        raise ModelError(
            f"{hub_id}: the hub repository has no config.json",
            hint="If it holds only GGUF files, download one and use its path.",
        ) from error
    except Exception as error:
        raise explain(error, hub_id, revision, ModelError) from error
    _say_where_from(hub_id)
    # The cache keeps a snapshot in a folder named after its commit.
    return Path(path).parent.name, Path(path)


def in_cache(hub_id: str, revision: str | None, name: str) -> bool:
    """Whether a file of a hub model was downloaded."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, name, revision=revision), str)


def explain(
    error: Exception, hub_id: str, revision: str | None, kind: type[LoritaError]
) -> LoritaError:
    """An error of the hub as one of ``kind``: not found, gated, no such revision, offline, …"""
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
            hint="Accept its terms on the hub, then log in with `hf auth login` or set HF_TOKEN.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return kind(
            f"{hub_id}: no folder or hub repository with this name",
            hint=names.hint(
                hub_id, "Check the spelling (owner/name). A private repository needs HF_TOKEN."
            ),
        )
    if isinstance(error, RevisionNotFoundError):
        return kind(f"{hub_id}: the hub has no revision {revision!r} of this repository")
    if isinstance(error, HFValidationError):
        return kind(f"{hub_id}: not a hub id (owner/name), and no such file or folder")
    if isinstance(error, OfflineModeIsEnabled):
        return _not_here(hub_id, kind)
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return kind(
            f"{hub_id}: the hub responded with status {error.response.status_code}",
            hint="Try again later, or use a folder or file on this machine.",
        )
    return _not_here(hub_id, kind)


def _not_here(hub_id: str, kind: type[LoritaError]) -> LoritaError:
    """What to say of a name that is neither on this machine nor can be asked for."""
    from huggingface_hub import constants

    there = "no such file or folder, and not in the hub's cache"
    advice = "Or use a folder or file on this machine."
    if is_lost():
        found = f"{there}; the hub ({constants.ENDPOINT}) cannot be reached"
        return kind(f"{hub_id}: {found}", hint=names.hint(hub_id, f"Check the network. {advice}"))
    if constants.HF_HUB_OFFLINE:
        said = f"{hub_id}: {there}; HF_HUB_OFFLINE is set"
        return kind(said, hint=names.hint(hub_id, f"Unset HF_HUB_OFFLINE to download it. {advice}"))
    said = f"{hub_id}: the hub ({constants.ENDPOINT}) does not answer, and it is not in the cache"
    return kind(said, hint=f"Try again later. {advice}")


def _say_where_from(hub_id: str) -> None:
    """A ``LoritaWarning`` if what is used was downloaded before because the hub is out of reach."""
    if is_lost():
        warnings.warn(
            f"the hub cannot be reached, so {hub_id} is used as it was downloaded before",
            LoritaWarning,
            stacklevel=4,
        )


def check_can_push(hub_id: str) -> None:
    """Raise ``SettingsError`` if an upload is bound to fail, without contacting the hub."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    problems = []
    try:
        validate_repo_id(hub_id)
    except HFValidationError:
        problems.append(f"{hub_id}: not a valid hub repository name (owner/name)")
    if constants.HF_HUB_OFFLINE:
        problems.append("push to the hub: HF_HUB_OFFLINE is set")
    elif get_token() is None:
        problems.append("push to the hub: no token found (`hf auth login`, or HF_TOKEN)")
    if problems:
        raise SettingsError(problems)


def license_of(hub_id: str) -> str | None:
    """The licence in a hub model's card; None if it names none or cannot be reached."""
    from huggingface_hub import model_info

    try:
        card = model_info(hub_id).card_data
    except Exception:  # the licence is optional; the push itself reports real errors
        return None
    return card.get("license") if card is not None else None


def make_repository(hub_id: str, *, private: bool) -> str:
    """Create the model repository unless it exists; returns its full id.

    Raises ``UserError`` if the hub does not allow it.
    """
    from huggingface_hub import create_repo

    find_hub()
    try:
        return str(create_repo(hub_id, private=private or None, exist_ok=True).repo_id)
    except Exception as error:
        raise _cannot_push(error, hub_id) from error


def upload(hub_id: str, folder: Path, message: str) -> str:
    """Upload every file of a folder as one commit; returns the URL of the repository.

    Raises ``UserError`` if the hub does not allow it.
    """
    from huggingface_hub import upload_folder
    from huggingface_hub.constants import ENDPOINT

    try:
        upload_folder(repo_id=hub_id, folder_path=folder, commit_message=message)
    except Exception as error:
        raise _cannot_push(error, hub_id) from error
    return f"{ENDPOINT}/{hub_id}"


def _cannot_push(error: Exception, hub_id: str) -> UserError:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if is_lost():
        return UserError(f"{hub_id}: the hub ({constants.ENDPOINT}) cannot be reached")
    response = error.response if isinstance(error, HfHubHTTPError) else None
    if response is not None and response.status_code in (401, 403):
        return UserError(
            f"{hub_id}: the hub rejected the upload ({response.status_code})",
            hint="The token (HF_TOKEN) must have write access to this repository.",
        )
    if response is not None:
        return UserError(f"{hub_id}: the hub responded with status {response.status_code}: {error}")
    return UserError(f"{hub_id}: the hub ({constants.ENDPOINT}) cannot be reached: {error}")


def find_adapter(hub_id: str, config_file: str) -> Path:
    """Download a hub adapter; returns its folder in the cache.

    ``config_file`` is the file that makes it an adapter. Raises ``AdapterError`` with the reason if
    it is not available.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    kept = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "run.yaml"]
    left_out = ["checkpoint-*"]
    find_hub()
    try:
        with quiet_client():
            hf_hub_download(hub_id, config_file)
            folder = snapshot_download(hub_id, allow_patterns=kept, ignore_patterns=left_out)
    except LocalEntryNotFoundError as error:
        raise _not_here(hub_id, AdapterError) from error
    except EntryNotFoundError as error:
        raise AdapterError(f"{hub_id}: the hub repository holds no adapter") from error
    except Exception as error:
        raise explain(error, hub_id, None, AdapterError) from error
    _say_where_from(hub_id)
    return Path(folder)
