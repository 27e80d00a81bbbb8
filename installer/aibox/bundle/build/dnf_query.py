"""Solves a closure with dnf's own library; run by the Python that dnf of this machine runs with.

    python dnf_query.py REQUEST.json ANSWER.json

The request: folder (empty, for everything that dnf writes), release, architecture, wanted,
kernel_pattern, repositories [{id, address, key, signed_index}]. The answer: packages
[{name, version, architecture, path, size, checksum: [kind, hex], repository, licence}] and
kernels (names that match the pattern), or error and message.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dnf  # type: ignore[import-not-found]
import dnf.callback  # type: ignore[import-not-found]
import dnf.exceptions  # type: ignore[import-not-found]


class TrustGivenKeys(dnf.callback.KeyImport):  # type: ignore[misc]
    """The only keys on offer are those of the packager's own file."""

    def _confirm(self, *_facts: object) -> bool:
        return True


def configured(request: dict[str, Any]) -> Any:
    folder = Path(request["folder"])
    base = dnf.Base()
    conf = base.conf
    for name in ("installroot", "cachedir", "persistdir", "logdir"):
        (folder / name).mkdir()
        setattr(conf, name, str(folder / name))
    conf.config_file_path, conf.reposdir, conf.varsdir = "/dev/null", [], []
    conf.install_weak_deps, conf.best, conf.zchunk = False, True, False
    conf.substitutions["releasever"] = request["release"]
    conf.substitutions["arch"] = request["architecture"]
    conf.substitutions["basearch"] = request["architecture"]
    conf.ignorearch = False
    for given in request["repositories"]:
        repo = base.repos.add_new_repo(given["id"], conf, baseurl=[given["address"]])
        repo.gpgcheck, repo.repo_gpgcheck = True, given["signed_index"]
        repo.gpgkey = [Path(given["key"]).as_uri()]
        repo.skip_if_unavailable = False
        repo._set_key_import(TrustGivenKeys())
    return base


def solved(request: dict[str, Any]) -> dict[str, Any]:
    base = configured(request)
    try:
        base.fill_sack(load_system_repo=False, load_available_repos=True)
        pattern = request["kernel_pattern"]
        kernels = [str(item) for item in base.sack.query().available().filter(name__glob=pattern)]
        if request["wanted"]:
            base.install_specs(request["wanted"], strict=True)
            base.resolve()
        chosen = base.transaction.install_set if base.transaction else ()
        return {"packages": [described(item) for item in chosen], "kernels": kernels}
    except dnf.exceptions.RepoError as error:
        return {"error": "repository", "message": str(error)}
    except dnf.exceptions.MarkingErrors as error:
        return {"error": "unknown", "message": str(error)}
    except dnf.exceptions.DepsolveError as error:
        return {"error": "unsatisfiable", "message": str(error)}
    except dnf.exceptions.Error as error:
        return {"error": "other", "message": str(error)}
    finally:
        base.close()


def described(package: Any) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.evr,
        "architecture": package.arch,
        "path": package.location,
        "size": package.downloadsize,
        "checksum": list(package.returnIdSum()),
        "repository": package.repoid,
        "licence": package.license,
    }


def main() -> None:
    request, answer = (Path(argument) for argument in sys.argv[1:])
    answer.write_text(json.dumps(solved(json.loads(request.read_text()))))


if __name__ == "__main__":
    main()
