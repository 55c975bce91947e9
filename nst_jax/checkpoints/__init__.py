"""Checkpoints: files with the state of a run, and checks that a run may resume from such a file.

A checkpoint is an HDF5 file with the attributes `format` ("nst-jax checkpoint"), `version` (1) and
`checksum`. Its dataset `told` (a historical name) has the fields of the `Checkpoint` except `arrays`
and `history`, as JSON in UTF-8. The datasets `state/...` are the leaves of the run's `State` by name,
such as `state/opt_state/memory/moves`. The datasets `history/...` are the losses of the first canvas
(a canvas is the picture being optimised) and of the canvas after each update so far.

The checksum is a CRC-32 over the name, dtype, shape and bytes of every dataset, in the order of their
names. Unlike unpickling, reading a checkpoint executes nothing that is in the file.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.checkpoints import files, leaves, resuming
    from nst_jax.checkpoints.files import CHECKPOINT_FORMAT, load, save
    from nst_jax.checkpoints.leaves import Checkpoint, named_leaves, state_from, tree_from
    from nst_jax.checkpoints.resuming import (
        BucketOfRun,
        bucket_of,
        check_resumable,
        check_same_run,
        with_choices_of,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("files", "leaves", "resuming"),
        {
            "files": ("CHECKPOINT_FORMAT", "load", "save"),
            "leaves": ("Checkpoint", "named_leaves", "state_from", "tree_from"),
            "resuming": (
                "BucketOfRun",
                "bucket_of",
                "check_resumable",
                "check_same_run",
                "with_choices_of",
            ),
        },
    )

__all__ = [
    "BucketOfRun", "CHECKPOINT_FORMAT", "Checkpoint", "bucket_of", "check_resumable",
    "check_same_run", "files", "leaves", "load", "named_leaves", "resuming", "save", "state_from",
    "tree_from", "with_choices_of",
]  # fmt: skip
