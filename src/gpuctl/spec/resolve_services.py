"""From the model to the resolved spec: what runs on the cluster (storage, management, notebooks)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gpuctl.spec import fit, model
from gpuctl.spec import resolved as r
from gpuctl.spec.versions import newest_for, table


class Folder:
    """Makes the relative files of a YAML file absolute."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, path: str) -> str:
        given = Path(path)
        with suppress(RuntimeError):  # the home of a user who is not there: nothing will be found at ./~name either
            given = given.expanduser()
        return str((self._folder / given).resolve())

    def file(self, reference: str | None) -> str | None:
        """The path of a ``file:PATH`` setting that is no secret."""
        return None if reference is None else self.path(reference.removeprefix("file:"))

    def secret(self, ref: r.SecretRef | None) -> r.SecretRef | None:
        return None if ref is None else self.known_secret(ref)

    def known_secret(self, ref: r.SecretRef) -> r.SecretRef:
        if ref.kind == "file":
            return r.SecretRef("file", self.path(ref.value))
        if ref.kind == "sops":
            path, mark, key = ref.value.partition("#")
            return r.SecretRef("sops", f"{self.path(path)}{mark}{key}")
        return ref


def storage(given: model.Storage) -> r.Storage:
    nfs, scratch, local = given.nfs, given.scratch, given.local
    return r.Storage(
        r.Nfs(
            nfs.server, nfs.path, nfs.class_, nfs.default, nfs.provisioner, tuple(nfs.mount_options), nfs.reclaim
        )
        if nfs
        else None,
        r.ScratchClass(scratch.class_, scratch.mount) if scratch else None,
        r.LocalClass(
            local.class_, local.path, not (nfs and nfs.default) if local.default is None else local.default
        ),
    )  # fmt: skip


def certificates(given: model.Certificates, folder: Folder) -> r.Certificates:
    ca = given.ca
    private = (
        r.PrivateCa(folder.path(ca.certificate.removeprefix("file:")), folder.known_secret(ca.key)) if ca else None
    )
    return r.Certificates(given.issuer, private, given.email)


def rancher(given: model.Rancher | None, kubernetes: str) -> r.Rancher | None:
    if given is None:
        return None
    return r.Rancher(given.hostname, given.replicas, given.version or newest_for("rancher_for", kubernetes))


def gitops(given: model.GitOps | None, folder: Folder, mirror: str | None) -> r.GitOps | None:
    if given is None:
        return None
    known = given.credentials
    credentials = (
        r.GitCredentials(
            known.username, folder.secret(known.password), folder.secret(known.ssh_key), folder.file(known.known_hosts)
        )
        if known
        else None
    )
    ca, path = folder.file(given.ca), given.path.strip("/")
    repo = f"{mirror.rstrip('/')}/{given.repo.rstrip('/').rpartition('/')[2]}" if mirror else given.repo
    return r.GitOps(repo, given.branch, path, credentials, ca, given.polling, tuple(given.bundles))


def jupyterhub(
    given: model.JupyterHub | None, storage: r.Storage, nodes: tuple[r.Node, ...], folder: Folder
) -> r.JupyterHub | None:
    if given is None:
        return None
    return r.JupyterHub(
        hostname=given.hostname,
        version=given.version or str(table()["jupyterhub"]),
        auth=_auth(given.auth, folder),
        image=given.image,
        profiles=tuple(_profile(profile, given.image) for profile in given.profiles or _profiles(nodes)),
        home_size=given.home.size,
        home_class=given.home.class_ or storage.default_class,
        scratch=r.HubScratch(given.scratch.size, given.scratch.mount) if given.scratch else None,
        shm=given.shm,
        culling_idle=given.culling.idle,
        culling_every=given.culling.every,
        quota=r.Quota(**dict(given.quota)),
        start_timeout=given.start_timeout,
    )


def _auth(given: model.Auth, folder: Folder) -> r.Auth:
    oauth, ldap = given.oauth, given.ldap
    return r.Auth(
        kind=given.kind,
        password=folder.secret(given.password),
        oauth=r.OAuth(
            oauth.client_id,
            folder.known_secret(oauth.client_secret),
            oauth.authorize_url,
            oauth.token_url,
            oauth.userdata_url,
            oauth.username_claim,
            tuple(oauth.scopes),
        )
        if oauth
        else None,
        ldap=r.Ldap(
            ldap.server,
            ldap.port or 636,
            tuple(ldap.bind_dn_template),
            ldap.search_base,
            ldap.user_attribute,
            ldap.search_user,
            folder.secret(ldap.search_password),
            tuple(ldap.allowed_groups),
        )
        if ldap
        else None,
        admins=tuple(given.admins),
        allowed_users=tuple(given.allowed_users),
        allow_all=given.allow_all,
    )


def _profile(given: model.Profile, image: str) -> r.Profile:
    slices = tuple(sorted(given.slices.items()))
    if given.title:
        title = given.title
    else:
        cards = [f"{given.gpus} GPU{'s' * (given.gpus != 1)}"] if given.gpus else []
        cards += [f"{count} x {name}" for name, count in slices]
        title = ", ".join(cards) or "CPU only"
    return r.Profile(given.name, title, given.gpus, slices, given.cpus, given.memory, given.image or image)


def _profiles(nodes: tuple[r.Node, ...]) -> list[model.Profile]:
    """What the nodes can run: no GPU, powers of two of whole cards, one time-slice, one of each MIG slice."""
    whole = max((n.gpus.count for n in nodes if n.gpus and n.gpus.sharing == "none"), default=0)
    counts = [1 << power for power in range(whole.bit_length())]
    if not counts and any(n.gpus and n.gpus.sharing == "time-slicing" for n in nodes):
        counts = [1]
    cut = sorted({name for node in nodes for name in fit.slices(node)})
    return [
        model.Profile(name="cpu"),
        *(model.Profile(name=f"gpu-{count}", gpus=count) for count in counts),
        *(model.Profile(name=f"mig-{name.replace('.', '-')}", slices={name: 1}) for name in cut),
    ]
