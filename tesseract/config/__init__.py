"""What a user configures: datasets, their fields, levels and tiers."""
