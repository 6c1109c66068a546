"""Which stage a process works on."""

from __future__ import annotations

import os
import re

from tesseract.errors import InputError, NotFoundError
from tesseract.utils.aws_helpers import stage_name

_STAGE = re.compile(r"^[a-z][a-z0-9-]{0,31}$")
_BUCKET = re.compile(r"^tesseract-([a-z][a-z0-9-]{0,31})-\d{12}-archive$")


def stage_of(bucket: str, stage: str | None) -> str:
    """The stage of an archive bucket."""
    match = _BUCKET.match(bucket)
    if stage is None and match is None:
        raise InputError(
            f"the bucket {bucket!r} tells no stage", hint="a stage's is tesseract-{stage}-{account}-archive; or name the stage"
        )
    if stage and match and match[1] != stage:
        raise InputError(f"the bucket {bucket!r} is of stage {match[1]!r}, not {stage!r}", hint="name one of them")
    return stage or (match[1] if match else "")


def use_stage(stage: str | None) -> str:
    """The stage to work on, the environment made ready for its clients. Raises InputError for what cannot be a stage's name."""
    stage = stage or stage_name()
    if not _STAGE.match(stage):
        raise InputError(f"{stage!r} is not the name of a stage", hint="small letters, digits and dashes: local, dev, prod")
    if stage == "local" and not os.environ.get("AWS_ENDPOINT_URL"):
        from tesseract import local

        stack = local.status()
        if stack is None:
            raise NotFoundError(local.absence(), hint="start one with `tesseract local up`, or name another --stage")
        os.environ.update(stack.environment())
    return stage
