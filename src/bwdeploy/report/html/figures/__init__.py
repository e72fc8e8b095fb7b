"""Pictures of the report, each a function that draws plain numbers into a matplotlib figure."""
