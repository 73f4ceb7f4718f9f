"""Training as a pure function: seeded inside, and the process is afterwards as it was before."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def deterministic(seed: int) -> Iterator[int]:
    """Random states, determinism flags, environment, warnings and the libraries' verbosity are put back at the end.

    Inside, everything is seeded with the 32 bits of `seed` that it yields, operations are deterministic where torch can,
    and neither transformers nor the Hub's client prints, warns or shows progress.
    """
    import numpy as np
    import torch
    import transformers.utils.logging as chatter
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    bits = seed % 2**32
    states = random.getstate(), np.random.get_state()
    environment = dict(os.environ)
    verbosity, progress = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    hub_progress = not are_progress_bars_disabled()
    strict, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    filling = torch.utils.deterministic.fill_uninitialized_memory
    with torch.random.fork_rng(devices), warnings.catch_warnings():
        try:
            warnings.simplefilter("ignore")
            chatter.set_verbosity_error()
            chatter.disable_progress_bar()
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # costs a write of every tensor made
            random.seed(bits)
            np.random.seed(bits)
            torch.manual_seed(bits)
            yield bits
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)
            torch.utils.deterministic.fill_uninitialized_memory = filling
            chatter.set_verbosity(verbosity)
            if progress:
                chatter.enable_progress_bar()
            if hub_progress:
                enable_progress_bars()
            if devices:  # what training held goes back to the teacher that shares the accelerator
                gc.collect()
                torch.cuda.empty_cache()
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)
