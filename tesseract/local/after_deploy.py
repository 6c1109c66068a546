"""Settings of the template that the laptop cloud drops without a word, set again by API from the same compiled template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tesseract.utils.aws_helpers import client

Json = dict[str, Any]


def apply(template: Path, stack_name: str) -> int:
    """Set TTL, point-in-time recovery, lifecycle rules and concurrency limits. Returns how many settings there were."""
    resources: Json = json.loads(template.read_text())["Resources"]
    names: dict[str, str] = {}
    for page in client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack_name):
        names |= {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in page["StackResourceSummaries"]}
    done = 0
    for logical, resource in resources.items():
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::DynamoDB::Table":
                done += _table(names[logical], properties)
            case "AWS::S3::Bucket" if "LifecycleConfiguration" in properties:
                done += _lifecycle(names[logical], properties["LifecycleConfiguration"]["Rules"])
            case "AWS::Lambda::Function" if "ReservedConcurrentExecutions" in properties:
                limit = properties["ReservedConcurrentExecutions"]
                client("lambda").put_function_concurrency(FunctionName=names[logical], ReservedConcurrentExecutions=limit)
                done += 1
    return done


def _table(name: str, properties: Json) -> int:
    dynamodb, done = client("dynamodb"), 0
    ttl = properties.get("TimeToLiveSpecification")
    if ttl and dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]["TimeToLiveStatus"] != "ENABLED":
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
        done += 1
    recovery = properties.get("PointInTimeRecoverySpecification")
    if recovery:
        wanted = {"PointInTimeRecoveryEnabled": recovery["PointInTimeRecoveryEnabled"]}
        dynamodb.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=wanted)
        done += 1
    return done


def _lifecycle(bucket: str, rules: list[Json]) -> int:
    translated = []
    for rule in rules:
        entry: Json = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
        if "AbortIncompleteMultipartUpload" in rule:
            entry["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
        if "ExpirationInDays" in rule:
            entry["Expiration"] = {"Days": rule["ExpirationInDays"]}
        if "Transitions" in rule:
            entry["Transitions"] = [{"StorageClass": t["StorageClass"], "Days": t["TransitionInDays"]} for t in rule["Transitions"]]
        translated.append(entry)
    client("s3").put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": translated})
    return len(translated)
