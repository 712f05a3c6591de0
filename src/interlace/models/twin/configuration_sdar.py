"""The fields of config.json, for transformers: AutoConfig.from_pretrained(FOLDER, trust_remote_code=True).

Written by interlace, which does not read it. The network is not here: engines have their own, and transformers needs
the published modeling file.
"""

from transformers import Qwen3Config

__all__ = ["SDARConfig"]


class SDARConfig(Qwen3Config):
    model_type = "sdar"
    block_size = 4
    mask_token_id = 151669

    def __init__(self, rope_theta=10000.0, **kwargs):
        super().__init__(rope_theta=rope_theta, **kwargs)
        self.rope_theta = rope_theta  # transformers 5 moves it into rope_parameters; engines read it here
