"""The phases, in order."""

from __future__ import annotations

from gpuctl.phases.base import Phase
from gpuctl.phases.bootstrap import Bootstrap
from gpuctl.phases.gpu import Gpu
from gpuctl.phases.jupyter import Jupyter
from gpuctl.phases.manage import Manage
from gpuctl.phases.provision import Provision

PHASES: tuple[Phase, ...] = (Provision(), Bootstrap(), Gpu(), Manage(), Jupyter())
