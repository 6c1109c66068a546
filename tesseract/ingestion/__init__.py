"""From envelopes to raw items: decode, validate, write. No pyarrow and no pydantic in here: producers wait for the cold start."""
