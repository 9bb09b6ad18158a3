"""The variables that a model's process gets: few, so that no secret of ours reaches model code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_KEPT = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_CACHE_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
_KEPT_PREFIXES = ("LC_", "OPENBLAS_", "OMP_", "MKL_", "BLIS_", "NUMEXPR_")
"""Settings of numeric libraries: a machine may need them for correct results."""

_WAIT_POLICY = "PASSIVE"
# OpenMP's threads spin while they wait for each other. On a machine that has other work, too, one of them is
# often not running, and gradient boosting was seen to take ten times as long as on a single thread.


def minimal(python: Path) -> dict[str, str]:
    """Return the variables for a process of the environment that this interpreter belongs to."""
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    path = os.pathsep.join(filter(None, [str(python.parent), os.environ.get("PATH", os.defpath)]))
    kept.setdefault("OMP_WAIT_POLICY", _WAIT_POLICY)
    return {**kept, "PATH": path, "VIRTUAL_ENV": str(python.parent.parent), "PYTHONUNBUFFERED": "1"}


_INDEX = frozenset({"NETRC", "PYENV_ROOT", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "PATH"})
_OTHER_ENVIRONMENTS = frozenset({"UV_PYTHON", "UV_PROJECT_ENVIRONMENT"})


def for_uv() -> Mapping[str, str]:
    """Return the variables for uv: its own settings and those of the network, nothing else.

    Installing may build a package from source, which runs its author's code: no secret of ours may be there.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _KEPT | _INDEX or name.startswith(("UV_", *_KEPT_PREFIXES)))
        and name not in _OTHER_ENVIRONMENTS
    }
    # pyenv's shims answer only for the versions that are switched on, and uv gives up at one that does not.
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    pyenv = [str(folder) for folder in sorted(root.glob("versions/3.*/bin"))]
    usual = [each for each in kept.get("PATH", os.defpath).split(os.pathsep) if Path(each) != root / "shims"]
    return {**kept, "PATH": os.pathsep.join([*pyenv, *usual]), "UV_NO_PROGRESS": "1"}
