"""What happens to data after it has landed: live aggregates, the archive's windows, compaction, snapshots."""
