"""Where data lies: keys and codec are pure; dynamodb, s3_manager and parquet_writer are the only modules that do I/O."""
