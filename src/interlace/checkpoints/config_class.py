"""What ``transformers`` needs to open a config.json whose ``model_type`` it does not know: a class in a file beside it.

``AutoConfig`` takes it from ``auto_map``, and engines (LMDeploy, SGLang) begin with ``AutoConfig``. The file is for
them alone: nothing here reads it, and no network is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ConfigClass"]

_TEMPLATE = '''\
"""The fields of config.json, for transformers: AutoConfig.from_pretrained(FOLDER, trust_remote_code=True).

Written by interlace, which does not read it. The network is not here: engines have their own, and transformers needs
the published modeling file.
"""

from transformers import {base}

__all__ = ["{name}"]


class {name}({base}):
    model_type = "{model_type}"
{fields}
    def __init__(self, rope_theta=10000.0, **kwargs):
        super().__init__(rope_theta=rope_theta, **kwargs)
        self.rope_theta = rope_theta  # transformers 5 moves it into rope_parameters; engines read it here
'''


@dataclass(frozen=True)
class ConfigClass:
    """A class of a published repository, written anew: the nearest one of ``transformers`` by another name.

    Attributes:
        module: the file without ``.py``, and name: of the class; both as published, since ``auto_map`` says them.
        base: the class of ``transformers`` that knows the fields.
        fields: class attributes, such as the values of fields that config.json may leave out.

    >>> made = ConfigClass("configuration_sdar", "SDARConfig", "Qwen3Config", {"block_size": 4})
    >>> made.auto_map
    {'AutoConfig': 'configuration_sdar.SDARConfig'}
    >>> made.source("sdar").decode().splitlines()[11:14]
    ['class SDARConfig(Qwen3Config):', '    model_type = "sdar"', '    block_size = 4']
    """

    module: str
    name: str
    base: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Its place in the folder."""
        return f"{self.module}.py"

    @property
    def auto_map(self) -> dict[str, str]:
        """The field of config.json; of the published classes only that which is there."""
        return {"AutoConfig": f"{self.module}.{self.name}"}

    def source(self, model_type: str) -> bytes:
        """The text of the file."""
        fields = "".join(f"    {name} = {value!r}\n" for name, value in self.fields.items())
        return _TEMPLATE.format(base=self.base, name=self.name, model_type=model_type, fields=fields).encode()
