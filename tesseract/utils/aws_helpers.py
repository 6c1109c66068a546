"""AWS clients, and the storage of a stage on AWS. Honours the standard AWS variables, AWS_ENDPOINT_URL among them."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

MAX_CONNECTIONS = 32


def region(session: Any) -> str:
    """The region to work in: as botocore is configured, else AWS_REGION, else us-east-1."""
    return str(session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1")


@cache
def client(service: str, read_timeout: int = 60) -> Any:
    """One shared client per service, and per seconds that an answer may take.

    botocore alone, since `import boto3` costs a cold start a tenth of a second more.
    """
    from botocore.config import Config
    from botocore.session import get_session

    session = get_session()
    config = Config(
        max_pool_connections=MAX_CONNECTIONS,
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=5,
        read_timeout=read_timeout,
        user_agent_extra="tesseract",
    )
    return session.create_client(service, region_name=region(session), config=config)


def stage_name() -> str:
    """The stage that this process works on: TESSERACT_STAGE, else `local`."""
    return os.environ.get("TESSERACT_STAGE") or "local"


def bucket_name(stage: str) -> str:
    """The archive bucket of a stage: TESSERACT_BUCKET where it is set, else by the account of the caller."""
    return os.environ.get("TESSERACT_BUCKET") or f"tesseract-{stage}-{account()}-archive"


@cache
def account() -> str:
    """The caller's account id."""
    from botocore.exceptions import BotoCoreError, ClientError

    from tesseract.errors import BackendError

    try:
        return str(client("sts").get_caller_identity()["Account"])
    except (ClientError, BotoCoreError) as error:
        raise BackendError(f"AWS does not say who we are: {error}", hint="check AWS credentials, region and endpoint") from error
