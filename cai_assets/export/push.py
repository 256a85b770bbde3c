"""Upload of an exported folder to the Hugging Face Hub, on request only.

Guarantees: private unless public is requested; a repository that is already public is not written to without that
request; a public repository has a license. The token comes from the environment (HF_TOKEN) and is never stored.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from cai_assets.export.extra import ExportError, extra

RepoType = Literal["model", "dataset"]


def refuse_push(repo_id: str, *, public: bool, license_: str | None) -> str:
    """The token, if a push has everything it needs; else raise ExportError. Called before anything is written."""
    with extra():
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined,unused-ignore]
    try:
        validate_repo_id(repo_id)
    except HFValidationError as e:
        raise ExportError(f"{repo_id!r} cannot be pushed to: {e}") from None
    if public and not license_:
        raise ExportError("a public export needs a license: name it with --license ID, or push without --public")
    token = os.environ.get("HF_TOKEN", "")
    if not token:
        raise ExportError("a push needs a token with write access: set HF_TOKEN in the environment")
    return token


def push(folder: Path, repo_id: str, *, repo_type: RepoType, token: str, public: bool = False) -> str:
    """Upload a folder; return the address of the commit. Raise ExportError if the Hub refuses or cannot be reached."""
    with extra():
        from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, repo_type=repo_type, private=not public, exist_ok=True)
        if not public and not api.repo_info(repo_id, repo_type=repo_type).private:
            raise ExportError(f"{repo_id} is already public: add --public to push there, or name another repository")
        done = api.upload_folder(repo_id=repo_id, repo_type=repo_type, folder_path=folder,
                                 commit_message="Export from cai-assets")
    except ExportError:
        raise
    except Exception as e:  # the Hub's client raises errors of several libraries
        raise ExportError(f"{folder} was written, but not pushed to {repo_id}: {_first(e)}. Check the network, "
                          "HF_TOKEN and the name, then run the same command with --force") from None
    return str(done.commit_url)


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().split("\n", maxsplit=1)[0]
